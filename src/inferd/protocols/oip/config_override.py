"""A model's configuration as Triton's load request words it, said in the form of ``model.toml``.

Members: Triton's "Model Configuration". Only what a ``model.toml`` can say too is taken; a member that has no value, or
the one the model has already, says nothing, so that a configuration that was read may be sent back with one change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from inferd.core.errors import InvalidRequest, Unsupported
from inferd.protocols.shared.json_exact import read_exact
from inferd.protocols.shared.json_members import refuse
from inferd.protocols.shared.json_tensors import kind_of, show

_DEVICES = {"KIND_AUTO": "auto", "KIND_CPU": "cpu", "KIND_GPU": "cuda:0"}
_MAX_INT64 = 2**63 - 1
_US_PER_MS = 1000
_NOTHING: tuple[Any, ...] = ("", [], {}, None, 0)
_RUNTIMES = {"onnxruntime": "onnx", "pytorch": "torch"}
"""Triton's backends that have another name here."""


class Configuration(NamedTuple):
    """``overrides`` is in the form of ``model.toml``. ``claims`` are the members that it has no words for: what they
    say must be so by itself."""

    overrides: Mapping[str, Any]
    claims: Mapping[str, Any]


def read_config(text: Any, name: str, current: Mapping[str, Any]) -> Configuration:
    """What the JSON in ``text`` says of the model ``name``, whose present configuration is ``current`` ({} when it is
    not served). Raises ``MalformedRequest``, ``InvalidRequest`` and ``Unsupported``, which names the member."""
    if type(text) is not str:
        raise InvalidRequest(f"parameters.config is {kind_of(text)} where a JSON text is expected")
    config: Any = read_exact(text.encode("utf-8", "surrogatepass"), non_finite=False)
    members = _object(config, "config")
    if members.get("name", name) not in ("", name):
        refuse(f"config.name is {show(members['name'])}, the model is {name!r}", "config.name", members["name"])
    result: dict[str, Any] = {}
    claims: dict[str, Any] = {}
    for member, value in members.items():
        if member == "name" or value in _NOTHING or _plain(value) == _plain(current.get(member)):
            continue
        if member not in _READERS:
            claims[member] = value
            continue
        for key, table in _READERS[member](value, members).items():
            result[key] = {**result[key], **table} if key in result else table
    return Configuration(result, claims)


def check_claims(claims: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raise ``Unsupported`` for one that is not what the model's configuration says."""
    for member, value in claims.items():
        same = _plain(value) == _plain(current.get(member))
        if not (same or (member == "backend" and _RUNTIMES.get(str(value)) == current.get(member))):
            raise Unsupported(f"config.{member} cannot be set by a load; taken are: {', '.join(_READERS)}")


def _batch_size(value: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"batching": {"max_batch_size": _whole(value, "config.max_batch_size")}}


def _batching(value: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """``dynamic_batching``: the longest wait, and how long the queue may be and may last."""
    path = "config.dynamic_batching"
    members = _known(value, ("max_queue_delay_microseconds", "default_queue_policy"), path)
    table: dict[str, Any] = {"enabled": True}
    if "max_queue_delay_microseconds" in members:
        delay = _whole(members["max_queue_delay_microseconds"], f"{path}.max_queue_delay_microseconds")
        table["max_wait_ms"] = delay / _US_PER_MS
    policy = _known(
        members.get("default_queue_policy", {}),
        ("max_queue_size", "default_timeout_microseconds", "timeout_action"),
        f"{path}.default_queue_policy",
    )
    if policy.get("timeout_action", "REJECT") != "REJECT":
        raise Unsupported("what waited too long is always refused: timeout_action takes REJECT")
    if policy.get("max_queue_size"):
        table["max_queue_size"] = _whole(policy["max_queue_size"], f"{path}.max_queue_size")
    if "default_timeout_microseconds" in policy:
        timeout = _whole(policy["default_timeout_microseconds"], f"{path}.default_timeout_microseconds")
        table["queue_timeout_ms"] = timeout / _US_PER_MS
    return {"batching": table}


def _instances(value: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    path = "config.instance_group"
    if type(value) is not list or len(value) != 1:
        raise Unsupported(f"{path} takes one group of instances")
    group = _known(value[0], ("name", "kind", "count", "gpus"), f"{path}[0]")
    kind = group.get("kind", "KIND_AUTO")
    if kind not in _DEVICES:
        refuse(f"{path}[0].kind is {show(kind)}; it takes {', '.join(_DEVICES)}", path, kind)
    table: dict[str, Any] = {"device": _DEVICES[kind]}
    gpus = group.get("gpus")
    if gpus:
        if type(gpus) is not list or len(gpus) != 1 or kind == "KIND_CPU":
            raise Unsupported(f"{path}[0].gpus takes one device")
        table["device"] = f"cuda:{_whole(gpus[0], path)}"
    if group.get("count"):
        table["count"] = _whole(group["count"], f"{path}[0].count")
    return {"instances": table}


def _versions(value: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    path = "config.version_policy"
    members = _known(value, ("latest", "all", "specific"), path)
    if len(members) != 1:
        refuse(f"{path} takes one of latest, all and specific", path, value)
    ((choice, details),) = members.items()
    policy = "all"
    if choice == "latest":
        count = _known(details, ("num_versions",), f"{path}.latest").get("num_versions", 1)
        policy = f"latest:{_whole(count, f'{path}.latest.num_versions')}"
    elif choice == "specific":
        versions = _known(details, ("versions",), f"{path}.specific").get("versions")
        if type(versions) is not list or not versions:
            refuse(f"{path}.specific.versions is {kind_of(versions)} where version numbers are expected", path, value)
        policy = ",".join(str(_whole(each, f"{path}.specific.versions")) for each in versions)
    return {"lifecycle": {"version_policy": policy}}


_READERS: dict[str, Callable[[Any, Mapping[str, Any]], dict[str, Any]]] = {
    "max_batch_size": _batch_size,
    "dynamic_batching": _batching,
    "instance_group": _instances,
    "version_policy": _versions,
}


def _plain(value: Any) -> Any:
    """``value`` for comparison: members without a value left out, numbers as numbers, which protobuf's JSON writes as
    text when they may have 64 bits."""
    if isinstance(value, Mapping):
        return {member: _plain(each) for member, each in value.items() if each not in _NOTHING}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    is_number = isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) < 20
    return int(value) if is_number else value


def _object(value: Any, path: str) -> Mapping[str, Any]:
    if type(value) is not dict:
        refuse(f"{path} is {kind_of(value)} where an object is expected", path, value)
    return value  # type: ignore[no-any-return]


def _known(value: Any, known: tuple[str, ...], path: str) -> Mapping[str, Any]:
    """The members of an object that have a value. Raises ``Unsupported`` for one that is not among ``known``."""
    members = {member: each for member, each in _object(value, path).items() if each not in _NOTHING}
    for member in members:
        if member not in known:
            raise Unsupported(f"{path}.{member} cannot be set by a load; taken are: {', '.join(known)}")
    return members


def _whole(value: Any, path: str) -> int:
    """A number that is not negative; protobuf's JSON writes 64 bits as text."""
    if type(value) is str and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if type(value) is not int or not 0 <= value <= _MAX_INT64:
        raise InvalidRequest(f"{path} is {show(value)} where a whole number is expected", path=path, got=show(value))
    return value
