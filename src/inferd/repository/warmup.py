"""Warm a loaded model and measure it: what its largest batch costs, and whether batching changes its answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inferd.abc import Model
from inferd.core.config import ModelConfig
from inferd.core.errors import LoadFailed
from inferd.core.tensors import Signature, compile_check, example_inputs

logger = logging.getLogger("inferd.repository")

WARMUP_FILE = "warmup.npz"
# Enough calls that two interrupted ones do not decide the 99th percentile, within a bound for slow models.
TIMED_CALLS = 200
TIMED_SECONDS = 0.1
COMPARED_ROWS = 8

Inputs = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Measured:
    """What warm-up found out. ``cost_us`` is the 99th percentile of the largest batch, of ``largest_batch`` rows."""

    mode: str
    cost_us: float
    largest_batch: int
    batching: bool
    max_batch_difference: float | None
    seconds: float


def warm_up(models: Sequence[Model], config: ModelConfig, artefact: Path) -> Measured:
    """Execute every model once per batch size that matters, then time the first one's largest batch.

    Raises ``LoadFailed`` when the model fails on inputs made from its own signature or from ``warmup.npz``.
    """
    started = time.monotonic()
    model = models[0]
    signature = next(iter(model.signatures.values()))
    rows = warmup_rows(signature, artefact, batchable=model.batchable)
    for each in models:
        _first_call(each, take_rows(rows, 1) if model.batchable else rows)
    batching = model.batchable and config.batching.enabled is not False
    largest = config.batching.max_batch_size if batching else 1
    batch = take_rows(rows, largest) if model.batchable else rows
    if batching and largest > 1:
        for each in models:
            _check_batch(each, batch, largest)
    for size in config.batching.allowed_sizes if batching else ():
        model.execute(take_rows(rows, size), (), {}, "")
    cost_us = _cost_us(model, batch)
    difference = _batch_difference(model, rows) if batching else None
    return Measured(_mode(model, config, cost_us), cost_us, largest, batching, difference, time.monotonic() - started)


def warmup_rows(signature: Signature, artefact: Path, *, batchable: bool) -> Inputs:
    """Inputs from ``warmup.npz`` beside the artefact, else made from the signature (varied, within [0, 1])."""
    file = artefact.parent / WARMUP_FILE
    if file.is_file():
        with np.load(file, allow_pickle=False) as archive:
            inputs = {name: archive[name] for name in archive.files}
        compile_check(signature, batchable=batchable)(inputs)
        return inputs
    inputs = example_inputs(signature, rows=COMPARED_ROWS if batchable else 1)
    random = np.random.default_rng(0)
    return {
        name: random.random(array.shape).astype(array.dtype) if array.dtype.kind == "f" else array
        for name, array in inputs.items()
    }


def take_rows(rows: Inputs, count: int) -> Inputs:
    """``count`` rows, repeating those there are."""
    return {name: np.take(array, np.arange(count) % len(array), axis=0) for name, array in rows.items()}


def _first_call(model: Model, inputs: Inputs) -> None:
    try:
        model.execute(inputs, (), {}, "")
    except Exception as error:
        logger.exception("the first call failed")
        hint = f"put inputs it accepts into {WARMUP_FILE}" if model.user_code else "is its signature right?"
        raise LoadFailed(f"the model failed in warm-up: {str(error).splitlines()[:1] or type(error).__name__}; {hint}")


def _check_batch(model: Model, batch: Inputs, rows: int) -> None:
    """The model must answer as many rows as it is given, or it is not batchable and must say so."""
    outputs = model.execute(batch, (), {}, "")
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != rows:
            raise LoadFailed(
                f"output {name!r} has shape {list(array.shape)} for a batch of {rows} rows: the model is not batchable; "
                "say `batchable = false` in model.toml"
            )


def _cost_us(model: Model, batch: Inputs) -> float:
    samples: list[float] = []
    end = time.perf_counter() + TIMED_SECONDS
    while len(samples) < TIMED_CALLS and (not samples or time.perf_counter() < end):
        start = time.perf_counter()
        model.execute(batch, (), {}, "")
        samples.append(time.perf_counter() - start)
    return sorted(samples)[int(0.99 * (len(samples) - 1))] * 1e6


def _batch_difference(model: Model, rows: Inputs) -> float:
    """Largest absolute difference of a numeric output between rows executed alone and together."""
    count = COMPARED_ROWS
    batch = take_rows(rows, count)
    together = model.execute(batch, (), {}, "")
    worst = 0.0
    for row in range(count):
        alone = model.execute({name: array[row : row + 1] for name, array in batch.items()}, (), {}, "")
        for name, array in alone.items():
            if array.dtype.kind in "fiu" and array.size:
                difference = np.abs(array.astype(np.float64) - together[name][row : row + 1].astype(np.float64))
                worst = max(worst, float(np.nanmax(difference, initial=0.0)))
    return worst


def _mode(model: Model, config: ModelConfig, cost_us: float) -> str:
    """Inline only for built-in code whose largest batch is cheap, whatever the setting says of user code."""
    mode = config.execution.mode
    if model.user_code or mode == "thread":
        return "thread"
    return "inline" if mode == "inline" or cost_us <= config.execution.inline_max_us else "thread"
