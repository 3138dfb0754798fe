"""Captured requests as an experiment would have sent them: each through its unit's variant, and a log of what came."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from inferd.cli.loading import find_models, load
from inferd.cli.progress import progress_bar
from inferd.cli.replay_run import run_requests
from inferd.core.difference import is_float
from inferd.core.errors import ConfigError
from inferd.core.tensors import Tensors
from inferd.experiments.assignment import Assigner
from inferd.experiments.automatic import LATENCY
from inferd.experiments.definition import Experiment
from inferd.experiments.definition_toml import read_experiment
from inferd.repository.desired import WantedModel
from inferd.server.capture_file import CaptureFile
from inferd.serving.capture import CapturedRequest

COLUMNS = ("unit", "variant", "timestamp", "request_id", "row", "version", "error", "label", "score")


def write_log(
    capture: CaptureFile,
    definition: Path,
    log: Path,
    paths: Sequence[str],
    concurrency: int,
    version_policy: str | None,
    allow_pickle: bool | None,
) -> None:
    """Write what ``inferd experiment report`` reads, a line for each row answered. ``error`` stands in the first line
    of a request only, so that each request counts once. Latency is left out: the variants run one after the other, and
    the requests of a batch share one time, so a test that takes them for independent would find differences in noise.

    Raises ``ConfigError`` for an experiment that cannot be run on a capture, and what loading a version raises.
    """
    if not log.absolute().parent.is_dir():
        raise ConfigError(f"{log}: its folder does not exist")
    experiment = read_experiment(definition)
    if timed := [metric.name for metric in experiment.metrics if metric.column == LATENCY]:
        raise ConfigError(f"a replay does not tell a server's latency: leave the metric {timed[0]} out of {definition}")
    models = {model.name: model for model in find_models(paths, version_policy or "all", allow_pickle)}
    places = {variant.name: _place(variant.target, models) for variant in experiment.variants}
    assigned, left_out = _assign(experiment, capture.requests)
    lines: list[tuple[int, list[Any]]] = []
    for variant, requests in assigned.items():
        results = _run(*places[variant], requests, concurrency)
        lines += [(each.at_ms, line) for each in results for line in _lines(variant, each)]
    lines.sort(key=lambda each: each[0])
    _write(log, (line for _, line in lines))
    counts = ", ".join(f"{variant} {len(requests):,}" for variant, requests in assigned.items())
    others = "".join(f", {count:,} left out by {reason}" for reason, count in left_out.items())
    click.echo(f"{log}: requests to {counts}{others}")
    if not any(each.unit for each in capture.requests):
        click.echo("no units were captured: each request is a unit of its own", err=True)


def _place(target: str, models: Mapping[str, WantedModel]) -> tuple[WantedModel, int]:
    """The model and version that a variant's target means among the files."""
    name, _, version = target.partition("@")
    model = models.get(name)
    if model is None:
        raise ConfigError(f"no model named {name!r} for the target {target}; there are: {', '.join(sorted(models))}")
    if version and not version.isdigit():
        raise ConfigError(f"the target {target} is a label, which only a server knows; name the version by its number")
    number = int(version) if version else max(model.versions, default=0)
    if number not in model.versions:
        known = ", ".join(map(str, sorted(model.versions))) or "none"
        raise ConfigError(model.problems.get(number, f"model {name!r} has no version {number}; there are: {known}"))
    return model, number


def _assign(
    experiment: Experiment, requests: Sequence[CapturedRequest]
) -> tuple[dict[str, list[CapturedRequest]], Counter[str]]:
    """The requests of each variant, and how many take no part by reason. A request without a unit is its own."""
    if any(rule.header for rule in experiment.targeting):
        raise ConfigError("the experiment targets by a header, which a capture does not keep; target by an attribute")
    assigner = Assigner(experiment)
    assigned: dict[str, list[CapturedRequest]] = {variant.name: [] for variant in experiment.variants}
    left_out: Counter[str] = Counter()
    for each in requests:
        attributes = {name: str(value) for name, value in each.parameters.items()}
        found = assigner.assign(each.unit or each.request_id, attributes=attributes)
        if found.variant is None:
            left_out[found.reason] += 1
        else:
            assigned[found.variant.name].append(each)
    return assigned, left_out


def _run(
    model: WantedModel, version: int, requests: Sequence[CapturedRequest], concurrency: int
) -> list[CapturedRequest]:
    loaded = load(model, version)
    try:
        with progress_bar() as progress:
            task = progress.add_task(f"{model.name} {version}", total=len(requests))
            return run_requests(loaded, requests, concurrency, partial(progress.advance, task))
    finally:
        loaded.close()


def _lines(variant: str, each: CapturedRequest) -> Iterator[list[Any]]:
    unit, ok = each.unit or each.request_id, each.outcome == "ok"
    for row in range(each.rows if ok else 1):
        error = int(not ok) if row == 0 else ""
        answer = [_label(each.outputs, row), _score(each.outputs, row)] if ok else ["", ""]
        yield [unit, variant, f"{each.at_ms / 1000:.3f}", each.request_id, row, each.version, error, *answer]


def _label(outputs: Tensors, row: int) -> Any:
    """What an output without floats holds in the row, else the class ranked highest; "" where a row has no label."""
    for array in outputs.values():
        if not is_float(array) and _is_single(array):
            value = array.reshape(len(array))[row]
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    classes = _classes(outputs, row)
    return "" if classes is None else int(np.argmax(classes))


def _score(outputs: Tensors, row: int) -> Any:
    """The highest class's value, else the one float of the row; "" where there is neither."""
    classes = _classes(outputs, row)
    if classes is not None:
        return float(classes.max())
    single = [array for array in outputs.values() if is_float(array) and _is_single(array)]
    return float(single[0].reshape(len(single[0]))[row]) if single else ""


def _is_single(array: np.ndarray) -> bool:
    """Whether each row holds one value."""
    return array.ndim > 0 and array.size == len(array)


def _classes(outputs: Tensors, row: int) -> np.ndarray | None:
    for array in outputs.values():
        if is_float(array) and array.ndim == 2 and array.shape[1] > 1:
            return np.asarray(array[row], np.float64)
    return None


def _write(log: Path, lines: Iterator[list[Any]]) -> None:
    """``log`` appears only when it is whole."""
    part = log.with_name(f"{log.name}.part")
    try:
        with part.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(COLUMNS)
            writer.writerows(lines)
        os.replace(part, log)
    finally:
        part.unlink(missing_ok=True)
