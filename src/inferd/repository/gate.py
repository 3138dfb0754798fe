"""The gate: what a version must prove before it is served. Golden examples, a signature that callers can live with,
latency, and answers that do not depend on the batch."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from inferd.abc import Model
from inferd.core.config import GateConfig, ModelConfig
from inferd.core.difference import explain_difference
from inferd.core.errors import GateFailed
from inferd.core.plain_text import digits
from inferd.core.tensors import Signature, TensorSpec, describe
from inferd.repository.artefact import beside
from inferd.repository.golden import Golden, read_golden
from inferd.repository.warmup import Measured, Tensors, take_rows, warmup_rows

TIMED_CALLS = 200
TIMED_S = 2.0


def check_gate(
    model: Model, measured: Measured, config: ModelConfig, artefact: Path, replaces: Signature | None
) -> None:
    """Return when the version may be served. ``replaces`` is the signature of the version it comes after.

    Raises ``GateFailed`` with what is wrong, and ``ConfigError`` for golden examples that cannot be used.
    """
    gate = config.gate
    signature = next(iter(model.signatures.values()))
    if gate.signature == "compatible" and replaces is not None:
        _check_signature(replaces, signature)
    golden = read_golden(beside(artefact), signature, batchable=model.batchable) if gate.golden else None
    if golden is not None:
        _check_golden(model, measured, gate, golden)
    if gate.max_batch_difference is not None and (measured.max_batch_difference or 0.0) > gate.max_batch_difference:
        raise GateFailed(
            f"gate: rows alone and in a batch differ by {measured.max_batch_difference:.3g}, "
            f"more than max_batch_difference = {gate.max_batch_difference:g}"
        )
    if gate.max_latency_ms:
        _check_latency(model, gate, artefact, signature)


def _check_signature(before: Signature, after: Signature) -> None:
    """Every call that fitted ``before`` must fit ``after``, and find its outputs."""
    inputs = {spec.name: spec for spec in after.inputs}
    outputs = {spec.name: spec for spec in after.outputs}
    wrong = [
        *_problems("input", before.inputs, inputs, takes=True),
        *_problems("output", before.outputs, outputs, takes=False),
        *(
            f"input {spec.name!r} is new and not optional"
            for spec in after.inputs
            if not spec.optional and spec.name not in {each.name for each in before.inputs}
        ),
    ]
    if wrong:
        raise GateFailed(f"gate: the signature does not fit callers of the version before: {'; '.join(wrong)}")


def _problems(kind: str, before: tuple[TensorSpec, ...], after: dict[str, TensorSpec], *, takes: bool) -> list[str]:
    """What of each old tensor has changed for the worse. An input may come to take more, an output to give less."""
    found = []
    for old in before:
        new = after.get(old.name)
        if new is None:
            found.append(f"{kind} {old.name!r} is gone")
            continue
        wide, narrow = (new, old) if takes else (old, new)
        fits = len(wide.shape) == len(narrow.shape) and all(
            theirs in (-1, ours) for theirs, ours in zip(wide.shape, narrow.shape, strict=True)
        )
        if new.datatype != old.datatype or not fits or (takes and old.optional and not new.optional):
            found.append(f"{kind} {old.name!r} was {describe(old)} and is {describe(new)}")
    return found


def _check_golden(model: Model, measured: Measured, gate: GateConfig, golden: Golden) -> None:
    outputs = _execute(model, golden.inputs, measured.max_batch_size if model.batchable else 0)
    wrong = []
    for name, expected in golden.outputs.items():
        rtol, atol = golden.tolerances.get(name, (gate.rtol, gate.atol))
        difference = explain_difference(expected, np.asarray(outputs[name]), rtol, atol)
        if difference:
            wrong.append(f"output {name!r} {difference}")
    if wrong:
        raise GateFailed(f"gate: {golden.file}: {'; '.join(wrong)}")


def _execute(model: Model, inputs: Tensors, batch_rows: int) -> Tensors:
    """The outputs of all rows, at most ``batch_rows`` at a time; 0: all at once."""
    rows = len(next(iter(inputs.values()))) if batch_rows else 0
    if rows <= batch_rows:
        return model.execute(inputs, (), {}, "")
    parts = [
        model.execute({name: array[start : start + batch_rows] for name, array in inputs.items()}, (), {}, "")
        for start in range(0, rows, batch_rows)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _check_latency(model: Model, gate: GateConfig, artefact: Path, signature: Signature) -> None:
    """The 99th percentile of calls with ``latency_rows`` rows, after some that do not count."""
    rows = warmup_rows(model, artefact)
    inputs = take_rows(rows, gate.latency_rows) if model.batchable else rows
    samples: list[float] = []
    end = time.perf_counter() + TIMED_S
    while len(samples) < TIMED_CALLS and (len(samples) < 3 or time.perf_counter() < end):
        start = time.perf_counter()
        model.execute(inputs, (), {}, "")
        samples.append((time.perf_counter() - start) * 1e3)
    p99_ms = float(np.quantile(samples, 0.99))
    if p99_ms > gate.max_latency_ms:
        count = gate.latency_rows if model.batchable else 1
        raise GateFailed(
            f"gate: a call of {count} row{'s' if count != 1 else ''} takes {digits(p99_ms, 3)} ms (99th percentile of "
            f"{len(samples)}), more than max_latency_ms = {gate.max_latency_ms:g}"
        )
