"""``HandleReloadConfigRequest``: serve just the models of a list, with their version policies and labels.

Format: tensorflow_serving/config/model_server_config.proto. Models are found in the server's repository; a list cannot
bring others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inferd.core.errors import InvalidRequest, ModelNotFound, Unsupported
from inferd.protocols.grpc.schema import message_class
from inferd.protocols.shared.context import ProtocolContext
from inferd.repository.control import ModelControl


async def reload_config(context: ProtocolContext, asked: Any, who: str) -> Any:
    """Return once all is served as the list says. Raises ``Unsupported`` without ``--model-control``, and what the
    control raises; then the models before the one that failed stay as the list says."""
    if context.control is None:
        raise Unsupported("models are not loaded or unloaded by this API; start the server with --model-control")
    control = context.control()
    if asked.config.WhichOneof("config") != "model_config_list":
        raise InvalidRequest("the request has no config.model_config_list")
    configs = asked.config.model_config_list.config
    for config in configs:
        _check_known(control, config)
    for config in configs:
        await _serve(control, config, who)
    for name in set(control.names) - {config.name for config in configs}:
        await control.unload(name, None, who)
        await control.settled(name)
    response = message_class("tensorflow.serving.ReloadConfigResponse")()
    response.status.SetInParent()
    return response


def _check_known(control: ModelControl, config: Any) -> None:
    if config.name not in control.names:
        raise ModelNotFound(f"no model named {config.name[:100]!r} in the server's repository")
    origin = control.describe(config.name)["origin"]
    if config.base_path and Path(config.base_path) != Path(origin):
        raise Unsupported(
            f"the base_path of {config.name!r} is not where the server's repository has it; leave base_path empty"
        )


async def _serve(control: ModelControl, config: Any, who: str) -> None:
    if config.HasField("model_version_policy"):
        await control.set_policy(config.name, _policy(config.model_version_policy), who)
    await control.load(config.name, None, who)
    await control.settled(config.name)
    for label, version in config.version_labels.items():
        await control.set_label(config.name, label, version, who)
    for label in set(control.describe(config.name)["labels"]) - set(config.version_labels):
        await control.remove_label(config.name, label, who)


def _policy(policy: Any) -> str:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return "all"
    if choice == "specific":
        return ",".join(map(str, sorted(set(policy.specific.versions))))
    return f"latest:{policy.latest.num_versions or 1}"
