"""Load and unload models by request, the same over REST and gRPC.

Rules: Triton's "Model Repository Extension". A load takes the model's files as they are now; a configuration in its
parameters is laid over them until a load without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferd.abc import Target
from inferd.core.errors import InvalidRequest, LoadFailed, Unsupported
from inferd.protocols.oip.config_override import read_config
from inferd.protocols.oip.describe import model_config
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.json_members import did_you_mean
from inferd.protocols.shared.json_tensors import kind_of
from inferd.repository.control import ModelControl

_FILE = "file:"


async def load(context: ProtocolContext, name: str, parameters: Mapping[str, Any], who: str) -> None:
    """Serve the model as its policy says, from its files as they are now; returns when it is served.

    Raises ``Unsupported`` without ``--model-control`` and for what a load cannot change, ``ModelNotFound``,
    ``InvalidRequest``, and ``LoadFailed``; then what was served before is served as it was.
    """
    control = _control(context)
    overrides = _overrides(context, name, parameters)
    served = name in context.engine.table.models
    before = control.overrides(name)
    changed = await control.configure(name, overrides, who)
    if served and not changed:
        await control.reload(name, None, who)
    await control.load(name, None, who)
    await control.settled(name)
    failure = control.failure(name)
    if failure:
        if changed:
            await control.configure(name, before, who)
            await control.settled(name)
        raise LoadFailed(f"{name!r} was not loaded: {failure}")
    context.engine.route(Target(name)).release()


async def unload(context: ProtocolContext, name: str, parameters: Mapping[str, Any], who: str) -> None:
    """Stop serving the model; returns when it is unloaded. No model here has others that depend on it."""
    control = _control(context)
    for parameter, value in parameters.items():
        if parameter != "unload_dependents" or type(value) is not bool:
            raise InvalidRequest(f"an unload takes unload_dependents, true or false, not {parameter[:100]!r}")
    await control.unload(name, None, who)
    await control.settled(name)


def _control(context: ProtocolContext) -> ModelControl:
    """Raises ``Unsupported`` unless the server was started to be controlled so."""
    if context.control is None:
        raise Unsupported("models are not loaded or unloaded by this API; start the server with --model-control")
    return context.control()


def _overrides(context: ProtocolContext, name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What a load's parameters say, in the form of ``model.toml``."""
    for parameter in parameters:
        if parameter.startswith(_FILE):
            raise Unsupported("a load takes no files here; put them into the repository and load the model again")
        if parameter != "config":
            known = did_you_mean(parameter, ("config",))
            raise InvalidRequest(f"unknown parameter {parameter[:100]!r}{known}; a load takes config")
    if "config" not in parameters:
        return {}
    text = parameters["config"]
    if type(text) is not str:
        raise InvalidRequest(f"parameters.config is {kind_of(text)} where a JSON text is expected")
    ticket = context.engine.table.tickets.get(Target(name))
    return read_config(text, name, model_config(ticket.servable) if ticket is not None else {})
