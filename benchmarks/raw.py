"""ONNX Runtime without a server: `session.run` in a loop, one intra-op thread, at the batch size that suits it best."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnxruntime


def session(path: Path) -> onnxruntime.InferenceSession:
    """A session with the settings that every side of the benchmark uses."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def rows_per_s(model: onnxruntime.InferenceSession, row: np.ndarray, batch: int, seconds: float) -> float:
    """Rows a second at one batch size; ``row`` is one row, [1, ...]."""
    inputs = {"x": np.repeat(row, batch, axis=0)}
    model.run(["y"], inputs)
    runs, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        model.run(["y"], inputs)
        runs += 1
    return runs * batch / elapsed


def best_batch(model: onnxruntime.InferenceSession, row: np.ndarray, sizes: tuple[int, ...], seconds: float) -> int:
    """The size of ``sizes`` with the most rows a second."""
    return max(sizes, key=lambda size: rows_per_s(model, row, size, seconds))
