"""Small hand-written stand-ins for what a test does not want for real: a model, an instance, metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from inferd.abc import ModelMetadata
from inferd.core.tensors import Signature, TensorSpec
from inferd.execution.batch import Batch

DOUBLE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))


class FakeModel:
    """Answers ``y = compute(x)``, twice x when nothing else is said, and keeps the number of rows of each call."""

    concurrent = True
    user_code = False

    def __init__(
        self, compute: Callable[[np.ndarray], np.ndarray] = lambda x: x * 2, *, batchable: bool = True
    ) -> None:
        self.signatures: Mapping[str, Signature] = {"default": DOUBLE}
        self.metadata = ModelMetadata(runtime_version="0", platform="fake")
        self.batchable = batchable
        self.calls: list[int] = []
        self.closed = False
        self._compute = compute

    def execute(
        self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], parameters: Mapping[str, Any], signature: str
    ) -> Mapping[str, np.ndarray]:
        """Call ``compute`` on ``x``."""
        self.calls.append(len(inputs["x"]))
        return {"y": self._compute(inputs["x"])}

    def close(self) -> None:
        """Remember it."""
        self.closed = True


class HeldInstance:
    """An instance that keeps its batches until the test says ``finish``: a model that is busy for as long as needed."""

    inline_rows = 0

    def __init__(self, model: FakeModel) -> None:
        self.model = model
        self.batches: list[Batch] = []
        self.closed = False

    def execute(self, batch: Batch) -> None:
        """Keep ``batch``."""
        self.batches.append(batch)

    def finish(self) -> Batch:
        """Execute and complete the oldest batch held."""
        batch = self.batches.pop(0)
        batch.execute(self.model)
        batch.on_done(batch)
        return batch

    def close(self) -> None:
        """Remember it."""
        self.closed = True


class CountingMetrics:
    """Counts what a batcher reports."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, int, int]] = []
        self.expired: Counter[str] = Counter()
        self.cancelled: Counter[str] = Counter()

    def observe_batch(self, reason: str, requests: int, rows: int, compute_ns: int, padded_rows: int = 0) -> None:
        """Keep reason, requests and rows."""
        self.batches.append((reason, requests, rows))

    def count_expired(self, stage: str) -> None:
        """Count by stage."""
        self.expired[stage] += 1

    def count_cancelled(self, stage: str) -> None:
        """Count by stage."""
        self.cancelled[stage] += 1
