"""Print what the native codec costs in microseconds, decoding and encoding JSON: ``python benchmarks/codec.py``."""

import json
import timeit

import numpy as np

from inferd.core.tensors import Signature, TensorSpec
from inferd.protocols.native.codec import NativeCodec
from inferd.protocols.shared.npy import write_npy

SIZES = ((1, 4), (1, 1024), (32, 128), (1000, 30), (1, 150528))
ROUNDS = 15


def microseconds(call, values: int) -> tuple[float, float]:
    """Least and median time of one call."""
    number = max(1, 20_000 // values)
    times = sorted(timeit.repeat(call, number=number, repeat=ROUNDS))
    return times[0] / number * 1e6, times[ROUNDS // 2] / number * 1e6


def measure(rows: int, width: int) -> None:
    score = TensorSpec("score", "FP32", (-1, width))
    label = TensorSpec("label", "INT64", (-1,))
    one = NativeCodec(Signature((TensorSpec("x", "FP32", (-1, width)),), (score,)), batchable=True, nan="error")
    two = NativeCodec(Signature((TensorSpec("x", "FP32", (-1, width)),), (label, score)), batchable=True, nan="error")
    values = np.random.default_rng(0).random((rows, width))
    outputs = {"score": values.astype(np.float32), "label": np.arange(rows)}
    rows_body = json.dumps({"instances": values.tolist()}).encode()
    columns_body = json.dumps({"inputs": {"x": values.tolist()}}).encode()
    npy_body, npy = write_npy(outputs["score"]), {b"content-type": b"application/x-npy"}
    bare, objects = one.decode(rows_body, {})[1], two.decode(rows_body, {})[1]
    for name, call in {
        "decode rows": lambda: one.decode(rows_body, {}),
        "decode columns": lambda: one.decode(columns_body, {}),
        "decode npy": lambda: one.decode(npy_body, npy),
        "encode one output": lambda: bare.encode(outputs),
        "encode two outputs": lambda: objects.encode(outputs),
    }.items():
        least, median = microseconds(call, rows * width)
        print(f"{rows:5} x {width:<7} {name:20} {least:12.2f} {median:12.2f}")


if __name__ == "__main__":
    print(f"{'rows x width':15} {'':20} {'least µs':>12} {'median µs':>12}")
    for rows, width in SIZES:
        measure(rows, width)
