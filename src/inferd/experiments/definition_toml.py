"""Read an experiment from TOML or the same keys as JSON, and refuse a wrong one with its place and the way out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from inferd.core.errors import ConfigError
from inferd.core.schema import conform, field_types
from inferd.core.toml_file import KeyPath, TomlFile, read_toml
from inferd.experiments.bandits.policies import LEAST_REWARDS
from inferd.experiments.definition import (
    Analysis,
    Bandit,
    Experiment,
    Guardrail,
    Holdout,
    Metric,
    Namespace,
    Ramp,
    Shadow,
    Step,
    Targeting,
    Variant,
)
from inferd.experiments.definition_checks import check, refusal

_LISTS: dict[str, tuple[str, type]] = {
    "variant": ("variants", Variant),
    "targeting": ("targeting", Targeting),
    "metric": ("metrics", Metric),
    "guardrail": ("guardrails", Guardrail),
    "step": ("steps", Step),
}
_TABLES: dict[str, type] = {
    "namespace": Namespace,
    "holdout": Holdout,
    "ramp": Ramp,
    "shadow": Shadow,
    "bandit": Bandit,
    "analysis": Analysis,
}
_PLAIN = ("id", "model", "unit", "salt", "coverage", "mode")
# key: (least, most, whether the least itself is allowed)
_RANGES: dict[str, tuple[float, float, bool]] = {
    "weight": (0, 1e9, False),
    "coverage": (0, 1, True),
    "start": (0, 1, True),
    "end": (0, 1, True),
    "share": (0, 1, True),
    "quantile": (0.001, 0.999, True),
    "alpha": (1e-6, 0.5, True),
    "power": (0.01, 0.999, True),
    "tuning_units": (10, 1e12, True),
    "resamples": (100, 100_000, True),
    "seed": (0, 2**63 - 1, True),
    "min_effect": (0, 100, False),
    "margin": (0, 100, True),
    "deviation": (0, 1e300, False),
    "minutes": (0, 527_040, True),
    "units": (0, 1e12, True),
    "every_s": (1, 86_400, True),
    "sample": (0, 1, False),
    "max_concurrency": (1, 10_000, True),
    "rtol": (0, 1, True),
    "atol": (0, 1e300, True),
    "top_k": (1, 1e6, True),
    "keep": (0, 10_000, True),
    "explore": (0, 1, False),
    "width": (0, 100, True),
    "warm_up": (LEAST_REWARDS, 1e9, True),
}
_Value = TypeVar("_Value")


def read_experiment(path: Path) -> Experiment:
    """The experiment that the file describes. Raises ``ConfigError`` naming file, line and what would be right."""
    return _experiment(read_toml(path))


def experiment_of(values: Mapping[str, Any]) -> Experiment:
    """The experiment of ``values``, the keys of a file. Raises ``ConfigError`` naming the key and the way out."""
    return _experiment(TomlFile(Path("the definition"), "", dict(values)))


def values_of(experiment: Experiment) -> dict[str, Any]:
    """The keys that a file of ``experiment`` would have, all that say something: what ``experiment_of`` reads."""
    values = {key: getattr(experiment, key) for key in _PLAIN}
    for key, (name, _) in _LISTS.items():
        values[key] = [_keys(entry) for entry in getattr(experiment, name)]
    for key in _TABLES:
        if getattr(experiment, key) is not None:
            values[key] = _keys(getattr(experiment, key))
    return {key: value for key, value in values.items() if value != []}


def _keys(entry: Any) -> dict[str, Any]:
    pairs = ((each.name, getattr(entry, each.name)) for each in fields(entry))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in pairs if value is not None}


def _experiment(document: TomlFile) -> Experiment:
    document.refuse_unknown((), document.values, (*_PLAIN, *_LISTS, *_TABLES))
    hints = field_types(Experiment)
    values = {
        key: _read(document, (key,), document.values[key], hints[key]) for key in _PLAIN if key in document.values
    }
    if values.get("mode") in ("shadow", "bandit"):
        values.setdefault("unit", "request-id")
    for key in ("id", "model", "unit", "variant"):
        if key not in {**values, **document.values}:
            raise ConfigError(f"{document.path}: {key!r} is missing")
    for key, (name, kind) in _LISTS.items():
        values[name] = tuple(_build(document, (key, i), table, kind) for i, table in enumerate(_tables(document, key)))
    for key, kind in _TABLES.items():
        if key in document.values:
            values[key] = _build(document, (key,), document.values[key], kind)
    values["metrics"] = tuple(replace(metric, column=metric.column or metric.name) for metric in values["metrics"])
    if values.get("mode") == "ramp":
        values.setdefault("ramp", Ramp())
    if values.get("mode") == "shadow":
        values.setdefault("shadow", Shadow())
    experiment = Experiment(**{"salt": values["id"], **values})
    check(document, experiment)
    return experiment


def _tables(document: TomlFile, key: str) -> list[Any]:
    tables = document.values.get(key, [])
    if not isinstance(tables, list):
        raise ConfigError(f"{document.where(key)}: {key} is written [[{key}]], once for each {key}")
    return tables


def _build(document: TomlFile, at: KeyPath, table: Any, kind: type[_Value]) -> _Value:
    """A dataclass whose fields are the keys of ``table``."""
    if not isinstance(table, dict):
        raise refusal(document, at, f"is a table of keys, got {table!r}")
    hints = field_types(kind)
    document.refuse_unknown(at, table, hints)
    for entry in fields(kind):  # type: ignore[arg-type]  # each kind of _LISTS and _TABLES is a dataclass
        if entry.default is MISSING and entry.name not in table:
            raise refusal(document, at, f"lacks {entry.name!r}")
    return kind(**{key: _read(document, (*at, key), value, hints[key]) for key, value in table.items()})


def _read(document: TomlFile, at: KeyPath, value: Any, hint: Any) -> Any:
    try:
        value = conform(value, hint)
    except ValueError as error:
        raise refusal(document, at, str(error)) from None
    least, most, inclusive = _RANGES.get(str(at[-1]), (None, None, True))
    if least is not None and not (least <= value <= most and (inclusive or value > least)):
        words = f"from {least:g}" if inclusive else f"above {least:g}"
        raise refusal(document, at, f"takes a number {words} to {most:g}, got {value}")
    return value
