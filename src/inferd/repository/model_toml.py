"""``model.toml``: read it, lay it over a model's configuration, and write one that reads back the same."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from inferd.core.config import (
    BatchingConfig,
    CacheConfig,
    ExecutionConfig,
    GateConfig,
    InstanceGroup,
    LifecycleConfig,
    ModelConfig,
)
from inferd.core.errors import ConfigError
from inferd.core.schema import conform, field_types
from inferd.core.tensors import DATATYPES, Signature, TensorSpec
from inferd.core.toml_file import KeyPath, TomlFile, dotted, read_toml
from inferd.repository.version_policy import check_policy

FILE_NAME = "model.toml"
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_SECTIONS: dict[str, type] = {
    "batching": BatchingConfig,
    "instances": InstanceGroup,
    "execution": ExecutionConfig,
    "lifecycle": LifecycleConfig,
    "gate": GateConfig,
    "cache": CacheConfig,
}
_TENSORS = {"input": "inputs", "output": "outputs"}
_AT_LEAST_ONE = {"max_queue_size", "max_concurrency", "count", "allowed_sizes", "latency_rows"}
# Not ``allow_pickle``: the folder that brings a pickle must not be able to declare it safe.
_PLAIN = ("name", "runtime", "select_outputs", "batchable", "nan")

Overrides = Mapping[str, Any]


def read_model_toml(path: Path) -> Overrides:
    """What the file says, by field of ``ModelConfig``; sections are mappings of their own fields.

    Raises ``ConfigError`` with file, line and the way out for an unknown key, a wrong type or an impossible value.
    """
    return _read_document(read_toml(path))


def read_overrides(values: Mapping[str, Any]) -> Overrides:
    """The same for what somebody said by the API, in the form of the file. Raises ``ConfigError``."""
    return _read_document(TomlFile(Path("config"), "", dict(values)))


def _read_document(document: TomlFile) -> Overrides:
    document.refuse_unknown((), document.values, (*_PLAIN, *_TENSORS, *_SECTIONS, "options"))
    hints = field_types(ModelConfig)
    result: dict[str, Any] = {}
    for key, value in document.values.items():
        if key in _TENSORS:
            result[_TENSORS[key]] = _read_tensors(document, key)
        elif key in _SECTIONS:
            result[key] = _read_section(document, key, _table(document, (key,), value))
        elif key == "options":
            result[key] = MappingProxyType(_table(document, (key,), value))
        else:
            result[key] = _read(document, (key,), value, hints[key])
    if not MODEL_NAME.fullmatch(result.get("name", "x")):
        raise ConfigError(f"{document.where('name')}: name takes letters, digits, '.', '_' and '-', at most 128")
    policy = result.get("lifecycle", {}).get("version_policy")
    if policy:
        try:
            check_policy(policy)
        except ConfigError as error:
            raise ConfigError(f"{document.where('lifecycle', 'version_policy')}: {error.message}") from None
    return result


def apply(config: ModelConfig, overrides: Overrides) -> ModelConfig:
    """``config`` with what ``overrides`` says laid over it, section by section."""
    merged = {
        key: replace(getattr(config, key), **value) if key in _SECTIONS else value for key, value in overrides.items()
    }
    return replace(config, **merged)


def dump_model_toml(config: ModelConfig, signature: Signature) -> str:
    """A ``model.toml`` that gives ``config`` back, with the tensors of ``signature``."""
    lines = [f"{key} = {_toml(value)}" for key in _PLAIN if (value := getattr(config, key)) not in ("", (), None)]
    for key, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            lines += ["", f"[[{key}]]", *_lines(spec, optional=spec.optional)]
    for key in _SECTIONS:
        lines += ["", f"[{key}]", *_lines(getattr(config, key))]
    if config.options:
        lines += ["", "[options]", *(f"{_toml_key(key)} = {_toml(value)}" for key, value in config.options.items())]
    return "\n".join(lines) + "\n"


def _read_section(document: TomlFile, section: str, table: dict[str, Any]) -> dict[str, Any]:
    hints = field_types(_SECTIONS[section])
    document.refuse_unknown((section,), table, hints)
    return {key: _read(document, (section, key), value, hints[key]) for key, value in table.items()}


def _read_tensors(document: TomlFile, key: str) -> tuple[TensorSpec, ...]:
    tables = document.values[key]
    if not isinstance(tables, list):
        raise ConfigError(f"{document.where(key)}: {key} is written [[{key}]], once for each tensor")
    specs = tuple(_read_tensor(document, (key, i), table) for i, table in enumerate(tables))
    names = [spec.name for spec in specs]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ConfigError(f"{document.where(key, i)}: a second {key} is named {name!r}")
    return specs


def _read_tensor(document: TomlFile, at: KeyPath, value: Any) -> TensorSpec:
    table = _table(document, at, value)
    hints = {**field_types(TensorSpec), "shape": tuple[int, ...]}
    document.refuse_unknown(at, table, hints)
    for key in ("name", "datatype", "shape"):
        if key not in table:
            raise ConfigError(f"{document.where(*at)}: {dotted(at)} lacks {key!r}")
    spec = TensorSpec(**{key: _read(document, (*at, key), table[key], hints[key]) for key in table})
    if spec.datatype not in DATATYPES:
        where = document.where(*at, "datatype")
        raise ConfigError(f"{where}: unknown datatype {spec.datatype!r}; known: {', '.join(DATATYPES)}")
    return spec


def _table(document: TomlFile, at: KeyPath, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{document.where(*at)}: {dotted(at)} is a table of keys, got {value!r}")
    return value


def _read(document: TomlFile, at: KeyPath, value: Any, hint: Any) -> Any:
    """One value as its field holds it; numbers have a floor: -1 in a shape, 1 where 0 makes no sense, 0 elsewhere."""
    try:
        value = conform(value, hint)
    except ValueError as error:
        raise ConfigError(f"{document.where(*at)}: {dotted(at)} {error}") from None
    least = -1 if at[-1] == "shape" else 1 if at[-1] in _AT_LEAST_ONE else 0
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, int | float) and not number >= least:
            raise ConfigError(f"{document.where(*at)}: {dotted(at)} takes numbers from {least} up, got {number}")
    return value


def _lines(values: Any, *, optional: bool = True) -> list[str]:
    """``key = value`` for each field of a dataclass; TOML has no null, so None is left out."""
    pairs = ((entry.name, getattr(values, entry.name)) for entry in fields(values))
    return [f"{key} = {_toml(value)}" for key, value in pairs if value is not None and (optional or key != "optional")]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml_key(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)
