"""Warm a loaded model and measure it: how large its batches may be, which of them are cheap enough for the loop, and
whether batching changes its answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from inferd.abc import Model, StreamingModel
from inferd.core.config import BatchingConfig, ModelConfig
from inferd.core.errors import InvalidInput, LoadFailed
from inferd.core.tensors import compile_check, example_inputs
from inferd.repository.artefact import beside, has_file

logger = logging.getLogger("inferd.repository")

WARMUP_FILE = "warmup.npz"
# A batch that grows beyond this only makes callers wait; one of 1,024 rows has long amortised its fixed cost.
LARGEST_BATCH_S = 0.1
LARGEST_BATCH_ROWS = 1024
UNMEASURED_BATCH_ROWS = 64
# Two interrupted calls do not decide the 99th percentile of 200, nor one busy moment the best of three.
TIMED_CALLS = 200
TIMED_S = 0.02
TIMED_ROUNDS = 3
COMPARED_ROWS = 8
CONFIRMING_CALLS = 20
CONFIRMED_FACTOR = 1.5

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Measured:
    """What warm-up found out.

    ``max_batch_size`` is in rows, configured or measured. Batches of at most ``inline_rows`` rows stay below the
    inline bound. ``cost_us`` is what the largest batch that was timed took, of ``cost_of_rows`` rows: its 99th
    percentile where it may run inline.
    """

    batching: bool
    max_batch_size: int
    inline_rows: int
    cost_us: float
    cost_of_rows: int
    max_batch_difference: float | None
    seconds: float
    asked: BatchingConfig = field(default_factory=BatchingConfig)
    """The batching that was configured when this was measured."""


def warm_up(models: Sequence[Model], config: ModelConfig, artefact: Path, before: Measured | None = None) -> Measured:
    """Execute every model, then time the first one at growing batch sizes. What was measured of the version ``before``
    is taken over when a few calls confirm it: callers of that one should not wait for thousands of calls.

    Raises ``LoadFailed`` when the model fails on inputs made from its own signature or from ``warmup.npz``.
    """
    started = time.monotonic()
    model = models[0]
    rows = warmup_rows(model, artefact)
    batching = model.batchable and config.batching.enabled is not False
    try:
        for each in models:
            _first_call(each, take_rows(rows, 1) if model.batchable else rows)
    except InvalidInput as error:
        # Its own code looked at made-up rows and refused them, as it should: it works, and stays unmeasured.
        logger.warning("%s refuses made-up inputs (%s): not measured; %s would do", config.name, error, WARMUP_FILE)
        size = config.batching.max_batch_size or UNMEASURED_BATCH_ROWS
        return Measured(batching, size if batching else 1, 0, 0.0, 0, None, time.monotonic() - started)
    if getattr(model, "streaming", False):
        return Measured(False, 1, 0, 0.0, 0, None, time.monotonic() - started)
    if not model.batchable:
        cost_us = _cost_us(model, rows, config)
        inline_rows = 1 if _may_run_inline(model, config, cost_us) else 0
        return Measured(False, 1, inline_rows, cost_us, 1, None, time.monotonic() - started)
    batch = take_rows(rows, _compared_rows(config, batching))
    together = model.execute(batch, (), {}, "")
    _check_rows(together, len(next(iter(batch.values()))))
    taken_over = _confirm(model, rows, config, before) if before is not None else None
    size, inline_rows, cost_us, cost_of_rows = taken_over or _grow(model, rows, config, batching)
    for padded in config.batching.allowed_sizes if batching else ():
        model.execute(take_rows(rows, padded), (), {}, "")
    difference = _batch_difference(model, batch, together) if batching else None
    return Measured(batching, size, inline_rows, cost_us, cost_of_rows, difference, time.monotonic() - started)


def _confirm(model: Model, rows: Tensors, config: ModelConfig, before: Measured) -> tuple[int, int, float, int] | None:
    """What ``_grow`` returned for the version before, if calls at one size show that it holds for this one.

    That size is the largest that runs inline: twice as many rows took longer than the bound, so a model that still
    comes below it is less than twice as slow. It is the largest that was timed where nothing else is bound so closely.
    """
    if not before.cost_of_rows or before.asked != config.batching:
        return None
    partly_inline = 0 < before.inline_rows < before.cost_of_rows
    size = before.inline_rows if partly_inline else before.cost_of_rows
    bound_us = float("inf") if partly_inline else CONFIRMED_FACTOR * before.cost_us
    if before.inline_rows and config.execution.mode == "auto":
        bound_us = min(bound_us, config.execution.inline_max_us)
    cost_us = _least_us(model, take_rows(rows, size), bound_us)
    if cost_us > bound_us or (before.inline_rows and not _may_run_inline(model, config, cost_us)):
        return None
    # Not the new cost where it is higher: versions that are a little slower each would add up unseen.
    known_us = before.cost_us if partly_inline else min(cost_us, before.cost_us)
    return before.max_batch_size, before.inline_rows, known_us, before.cost_of_rows


def _least_us(model: Model, inputs: Tensors, enough_us: float) -> float:
    """The fastest of a few calls, as many as it takes until one is fast enough."""
    least_us = float("inf")
    for _ in range(CONFIRMING_CALLS):
        start = time.perf_counter()
        model.execute(inputs, (), {}, "")
        least_us = min(least_us, (time.perf_counter() - start) * 1e6)
        if least_us <= enough_us:
            break
    return least_us


def _grow(model: Model, rows: Tensors, config: ModelConfig, batching: bool) -> tuple[int, int, float, int]:
    """Time batches of 1, 2, 4… rows, up to the configured size or until one takes too long.

    Returns the largest batch to make, the largest to run inline, and the cost and rows of the largest one timed.
    """
    configured = config.batching.max_batch_size if batching else 1
    most = configured or LARGEST_BATCH_ROWS
    size, smaller, inline_rows = 1, 0, 0
    while True:
        cost_us = _cost_us(model, take_rows(rows, size), config)
        if inline_rows == smaller and _may_run_inline(model, config, cost_us):
            inline_rows = size
        if size >= most or 2 * cost_us > LARGEST_BATCH_S * 1e6:
            return configured or size, inline_rows, cost_us, size
        size, smaller = min(2 * size, most), size


def _cost_us(model: Model, inputs: Tensors, config: ModelConfig) -> float:
    """What one call costs: the 99th percentile when it may come below the inline bound, else a single call."""
    best = float("inf")
    for _ in range(TIMED_ROUNDS):
        samples: list[float] = []
        end = time.perf_counter() + TIMED_S
        while len(samples) < TIMED_CALLS and (not samples or time.perf_counter() < end):
            start = time.perf_counter()
            model.execute(inputs, (), {}, "")
            samples.append((time.perf_counter() - start) * 1e6)
        best = min(best, sorted(samples)[int(0.99 * (len(samples) - 1))])
        if best <= config.execution.inline_max_us or min(samples) > config.execution.inline_max_us:
            break
    return best


def _may_run_inline(model: Model, config: ModelConfig, cost_us: float) -> bool:
    """Only built-in code that is cheap enough, whatever the setting says of user code."""
    mode = config.execution.mode
    if model.user_code or mode == "thread":
        return False
    return mode == "inline" or cost_us <= config.execution.inline_max_us


def warmup_rows(model: Model, artefact: Path) -> Tensors:
    """Inputs from ``warmup.npz`` beside the artefact, else those that the artefact itself brings, else made from the
    signature (varied, within [0, 1])."""
    signature = next(iter(model.signatures.values()))
    file = beside(artefact) / WARMUP_FILE
    if has_file(file):
        with np.load(file, allow_pickle=False) as archive:
            inputs = {name: as_tensor(archive[name]) for name in archive.files}
        compile_check(signature, batchable=model.batchable)(inputs)
        return inputs
    example: Tensors | None = getattr(model, "example", None)
    if example is not None:
        return example
    inputs = example_inputs(signature, rows=COMPARED_ROWS if model.batchable else 1)
    random = np.random.default_rng(0)
    return {
        name: random.random(array.shape).astype(array.dtype) if array.dtype.kind == "f" else array
        for name, array in inputs.items()
    }


def as_tensor(array: np.ndarray) -> np.ndarray:
    """``array``; text as an NPZ file holds it becomes BYTES as tensors hold it."""
    if array.dtype.kind == "U":
        array = np.char.encode(array, "utf-8")
    return array.astype(object) if array.dtype.kind == "S" else array


def take_rows(rows: Tensors, count: int) -> Tensors:
    """``count`` rows, repeating those there are."""
    return {name: np.take(array, np.arange(count) % len(array), axis=0) for name, array in rows.items()}


def _first_call(model: Model, inputs: Tensors) -> None:
    try:
        _first_response(model, inputs)
    # Whatever a framework raises is the reason this version cannot be served.
    except InvalidInput:
        raise
    except Exception as error:
        logger.exception("the first call failed")
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        hint = (
            f"put inputs it accepts into {WARMUP_FILE}" if model.user_code else "does its signature say what it takes?"
        )
        raise LoadFailed(f"the model failed in warm-up: {reason}; {hint}") from error


def _first_response(model: Model, inputs: Tensors) -> None:
    """Of a model that gives several, one is enough: nobody knows how many there are."""
    if not getattr(model, "streaming", False):
        model.execute(inputs, (), {}, "")
        return
    with closing(cast(StreamingModel, model).stream(inputs, (), {}, "")) as responses:
        next(responses, None)


def _compared_rows(config: ModelConfig, batching: bool) -> int:
    """The rows of a first batch: several, but no more than a batch is to have."""
    return max(2, min(COMPARED_ROWS, config.batching.max_batch_size or COMPARED_ROWS)) if batching else 2


def _check_rows(outputs: Tensors, rows: int) -> None:
    """The model must answer as many rows as it is given, or it is not batchable and must say so."""
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != rows:
            raise LoadFailed(
                f"output {name!r} has shape {list(array.shape)} for a batch of {rows} rows: the model is not "
                "batchable; say `batchable = false` in model.toml"
            )


def _batch_difference(model: Model, batch: Tensors, together: Tensors) -> float:
    """Largest absolute difference of a numeric output between rows executed alone and ``together``."""
    rows = range(len(next(iter(batch.values()))))
    alone = [model.execute({name: array[row : row + 1] for name, array in batch.items()}, (), {}, "") for row in rows]
    worst = 0.0
    for name, array in together.items():
        if array.dtype.kind in "fiu" and array.size:
            apart = np.concatenate([each[name] for each in alone])
            difference = np.abs(apart.astype(np.float64) - array.astype(np.float64))
            worst = max(worst, float(np.nanmax(difference, initial=0.0)))
    return worst
