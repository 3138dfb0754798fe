"""Load and unload models by request, the same over REST and gRPC.

Rules: Triton's "Model Repository Extension". A load takes the model's files as they are now, or those that it
brings along; a configuration in its parameters is laid over them until a load without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from inferd.abc import Target
from inferd.core.errors import InvalidRequest, LoadFailed, Unsupported
from inferd.protocols.oip.config_override import Configuration, check_claims, read_config
from inferd.protocols.oip.describe import model_config
from inferd.protocols.oip.file_override import PREFIX, read_files
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.json_members import did_you_mean
from inferd.repository.control import ModelControl, Source
from inferd.repository.model_toml import MODEL_NAME


async def load(context: ProtocolContext, name: str, parameters: Mapping[str, Any], who: str) -> None:
    """Serve the model as its policy says, from its files as they are now; returns when it is served. Files in the
    parameters take the place of the repository's until a load without any, or an unload.

    Raises ``Unsupported`` without ``--model-control`` and for what a load cannot change, ``ModelNotFound``,
    ``InvalidRequest``, and ``LoadFailed``; then what was served before is served as it was.
    """
    control = _control(context)
    _check_names(name, parameters)
    files = await asyncio.to_thread(read_files, parameters)
    if files and "config" not in parameters:
        raise InvalidRequest('files need a configuration beside them: parameters.config, which may be "{}"')
    async with control.change_of(name):
        served = _config_of(context, name)
        config = Configuration({}, {})
        if "config" in parameters:
            config = read_config(parameters["config"], name, {} if files else served)
        if not files:
            check_claims(config.claims, served)
        folder = await control.keep(name, files) if files else ""
        await _load(context, control, name, Source(config.overrides, folder), config.claims, who)


async def _load(
    context: ProtocolContext, control: ModelControl, name: str, source: Source, claims: Mapping[str, Any], who: str
) -> None:
    """Serve the model from ``source``, or go on as before and raise."""
    before = control.source(name)
    served = name in context.engine.table.models
    changed = False
    gone = source.folder
    try:
        changed = await control.configure(name, source.overrides, who, source.folder)
        if served and not changed:
            await control.reload(name, None, who)
        await control.load(name, None, who)
        if failure := await control.loaded(name):
            raise LoadFailed(f"{name!r} was not loaded: {failure}")
        context.engine.route(Target(name)).release()
        check_claims(claims, _config_of(context, name))
        gone = before.folder
    except BaseException:
        if changed:
            await control.go_back(name, before, who)
        raise
    finally:
        if gone and gone != control.source(name).folder:
            control.discard(name, gone)


async def unload(context: ProtocolContext, name: str, parameters: Mapping[str, Any], who: str) -> None:
    """Stop serving the model; returns when it is unloaded. No model here has others that depend on it."""
    control = _control(context)
    for parameter, value in parameters.items():
        if parameter != "unload_dependents" or type(value) is not bool:
            raise InvalidRequest(f"an unload takes unload_dependents, true or false, not {parameter[:100]!r}")
    async with control.change_of(name):
        await control.unload(name, None, who)
        await control.settled(name)


def _control(context: ProtocolContext) -> ModelControl:
    """Raises ``Unsupported`` unless the server was started to be controlled so."""
    if context.control is None:
        raise Unsupported("models are not loaded or unloaded by this API; start the server with --model-control")
    return context.control()


def _check_names(name: str, parameters: Mapping[str, Any]) -> None:
    """Raise ``InvalidRequest`` for a parameter that no load has, and for files of a model that cannot be named so."""
    for parameter in parameters:
        if parameter.startswith(PREFIX):
            if not MODEL_NAME.fullmatch(name):
                raise InvalidRequest(f"{name[:130]!r} is no name of a model: letters, digits, '.', '_' and '-'")
        elif parameter != "config":
            known = did_you_mean(parameter, ("config",))
            raise InvalidRequest(f"unknown parameter {parameter[:100]!r}{known}; a load takes config and files")


def _config_of(context: ProtocolContext, name: str) -> Mapping[str, Any]:
    """The configuration of the version that answers now; {} when none does."""
    ticket = context.engine.table.tickets.get(Target(name))
    return model_config(ticket.servable) if ticket is not None else {}
