"""Read an experiment from TOML or the same keys as JSON, and refuse a wrong one with its place and the way out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from inferd.core.errors import ConfigError
from inferd.core.schema import conform, suggestion
from inferd.core.toml_file import KeyPath, TomlFile, dotted, read_toml
from inferd.experiments.assignment import BUCKETS, bounds
from inferd.experiments.definition import (
    Analysis,
    Experiment,
    Guardrail,
    Holdout,
    Metric,
    Namespace,
    Targeting,
    Variant,
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_TARGET = re.compile(rf"{NAME.pattern}(@{NAME.pattern})?")
_UNIT = re.compile(r"(header|cookie|parameter):[!-~]+|api-key|request-id")
_LISTS: dict[str, tuple[str, type]] = {
    "variant": ("variants", Variant),
    "targeting": ("targeting", Targeting),
    "metric": ("metrics", Metric),
    "guardrail": ("guardrails", Guardrail),
}
_TABLES: dict[str, type] = {"namespace": Namespace, "holdout": Holdout, "analysis": Analysis}
_PLAIN = ("id", "model", "unit", "salt", "coverage", "mode")
_LATER_MODES = ("ramp", "bandit", "shadow")
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
    hints = get_type_hints(Experiment)
    values = {
        key: _read(document, (key,), document.values[key], hints[key]) for key in _PLAIN if key in document.values
    }
    for key in ("id", "model", "unit", "variant"):
        if key not in document.values:
            raise ConfigError(f"{document.path}: {key!r} is missing")
    for key, (name, kind) in _LISTS.items():
        values[name] = tuple(_build(document, (key, i), table, kind) for i, table in enumerate(_tables(document, key)))
    for key, kind in _TABLES.items():
        if key in document.values:
            values[key] = _build(document, (key,), document.values[key], kind)
    values["metrics"] = tuple(replace(metric, column=metric.column or metric.name) for metric in values["metrics"])
    experiment = Experiment(**{"salt": values["id"], **values})
    _check_plain(document, experiment)
    _check_variants(document, experiment)
    _check_targeting(document, experiment)
    _check_metrics(document, experiment)
    return experiment


def _refuse(document: TomlFile, at: KeyPath, why: str) -> ConfigError:
    return ConfigError(f"{document.where(*at)}: {dotted(at)} {why}")


def _tables(document: TomlFile, key: str) -> list[Any]:
    tables = document.values.get(key, [])
    if not isinstance(tables, list):
        raise ConfigError(f"{document.where(key)}: {key} is written [[{key}]], once for each {key}")
    return tables


def _build(document: TomlFile, at: KeyPath, table: Any, kind: type[_Value]) -> _Value:
    """A dataclass whose fields are the keys of ``table``."""
    if not isinstance(table, dict):
        raise _refuse(document, at, f"is a table of keys, got {table!r}")
    hints = get_type_hints(kind)
    document.refuse_unknown(at, table, hints)
    for entry in fields(kind):  # type: ignore[arg-type]  # each kind of _LISTS and _TABLES is a dataclass
        if entry.default is MISSING and entry.name not in table:
            raise _refuse(document, at, f"lacks {entry.name!r}")
    return kind(**{key: _read(document, (*at, key), value, hints[key]) for key, value in table.items()})


def _read(document: TomlFile, at: KeyPath, value: Any, hint: Any) -> Any:
    try:
        value = conform(value, hint)
    except ValueError as error:
        raise _refuse(document, at, str(error)) from None
    least, most, inclusive = _RANGES.get(str(at[-1]), (None, None, True))
    if least is not None and not (least <= value <= most and (inclusive or value > least)):
        words = f"from {least:g}" if inclusive else f"above {least:g}"
        raise _refuse(document, at, f"takes a number {words} to {most:g}, got {value}")
    return value


def _check_plain(document: TomlFile, experiment: Experiment) -> None:
    for key in ("id", "model"):
        if not NAME.fullmatch(getattr(experiment, key)):
            raise _refuse(document, (key,), "takes letters, digits, '.', '_' and '-', at most 128")
    if not _UNIT.fullmatch(experiment.unit):
        accepted = "header:NAME, cookie:NAME, parameter:NAME, api-key or request-id"
        raise _refuse(document, ("unit",), f"takes {accepted}, got {experiment.unit!r}")
    if "\0" in experiment.salt or not experiment.salt:
        raise _refuse(document, ("salt",), "takes a text without NUL characters that is not empty")
    if experiment.mode in _LATER_MODES:
        raise _refuse(document, ("mode",), f"{experiment.mode!r} is not offered yet; use 'fixed'")
    if experiment.mode != "fixed":
        raise _refuse(document, ("mode",), f"{experiment.mode!r} is unknown{suggestion(experiment.mode, ['fixed'])}")
    space = experiment.namespace
    if space is not None and space.start >= space.end:
        raise _refuse(document, ("namespace",), f"is empty: start {space.start:g} is not below end {space.end:g}")


def _check_variants(document: TomlFile, experiment: Experiment) -> None:
    variants = experiment.variants
    if len(variants) < 2:
        raise ConfigError(f"{document.where('variant')}: an experiment compares at least two variants")
    _refuse_twins(document, "variant", (variant.name for variant in variants))
    limits = [0, *bounds(experiment)]
    for i, variant in enumerate(variants):
        if not NAME.fullmatch(variant.name):
            raise _refuse(document, ("variant", i, "name"), "takes letters, digits, '.', '_' and '-', at most 128")
        if not _TARGET.fullmatch(variant.target):
            raise _refuse(document, ("variant", i, "target"), f"takes model or model@version, got {variant.target!r}")
        if limits[i] == limits[i + 1]:
            raise _refuse(
                document, ("variant", i), f"has so little weight that none of the {BUCKETS} buckets is its own"
            )


def _check_targeting(document: TomlFile, experiment: Experiment) -> None:
    for i, rule in enumerate(experiment.targeting):
        if bool(rule.header) == bool(rule.attribute):
            raise _refuse(document, ("targeting", i), "names either a header or an attribute")
        if not rule.one_of:
            raise _refuse(document, ("targeting", i, "one_of"), "is empty: nobody would take part")


def _check_metrics(document: TomlFile, experiment: Experiment) -> None:
    metrics = experiment.metrics
    names = [metric.name for metric in metrics]
    _refuse_twins(document, "metric", names)
    for i, metric in enumerate(metrics):
        if (metric.kind == "ratio") != bool(metric.denominator):
            raise _refuse(document, ("metric", i), "needs a denominator if, and only if, its kind is ratio")
        if metric.kind == "quantile" and metric.covariate:
            raise _refuse(document, ("metric", i, "covariate"), "cannot sharpen a quantile; leave it out")
        if metric.kind == "proportion" and not 0 < (0.5 if metric.baseline is None else metric.baseline) < 1:
            raise _refuse(document, ("metric", i, "baseline"), "of a proportion lies between 0 and 1")
    for i, guardrail in enumerate(experiment.guardrails):
        if guardrail.metric not in names:
            known = suggestion(guardrail.metric, names)
            raise _refuse(document, ("guardrail", i, "metric"), f"is no metric: {guardrail.metric!r}{known}")


def _refuse_twins(document: TomlFile, key: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for i, name in enumerate(names):
        if name in seen:
            raise ConfigError(f"{document.where(key, i)}: a second {key} is named {name!r}")
        seen.add(name)
