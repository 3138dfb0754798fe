"""One work on one server: its body, the check of its answer against ONNX Runtime, and wrk's figures."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from models import FOLDER, example
from sides import Server

JSON = "application/json"
NPY = "application/x-npy"
CHECKED_SEEDS = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Figures:
    """What wrk measured: successful requests a second and the median latency in microseconds."""

    requests_per_s: float
    p50_us: float


def body_of(tensor: np.ndarray, content_type: str) -> bytes:
    """A predict request with ``tensor`` as its rows."""
    if content_type == JSON:
        return json.dumps({"instances": [[round(float(value), 6) for value in row] for row in tensor]}).encode()
    buffer = io.BytesIO()
    np.save(buffer, tensor)
    return buffer.getvalue()


def check_answers(server: Server, model: str, content_type: str, truth: onnxruntime.InferenceSession) -> None:
    """Raise unless the server's answers to several inputs are ONNX Runtime's own; echo must return the body."""
    for seed in CHECKED_SEEDS:
        tensor = example(model, seed)
        body = body_of(tensor, content_type)
        status, answer = server.ask("POST", "/predict", body, content_type)
        if status != 200:
            raise RuntimeError(f"{server.name} answered {status} to {model}: {answer[:500]!r}")
        if server.name == "echo":
            assert answer == body, "echo returned something else"
            continue
        got = json.loads(answer)["predictions"] if content_type == JSON else np.load(io.BytesIO(answer))
        np.testing.assert_allclose(got, truth.run(["y"], {"x": tensor})[0], rtol=1e-3, atol=1e-4, err_msg=server.name)


def measure(server: Server, model: str, content_type: str, connections: int, seconds: float) -> Figures:
    """Load the server from one wrk thread with connections kept alive. Raises when any answer was no success."""
    kind = "json" if content_type == JSON else "npy"
    path = FOLDER / f"{model}.{kind}"
    path.write_bytes(body_of(example(model, 0), content_type))
    script = str(Path(__file__).parent / "load.lua")
    url = f"http://127.0.0.1:{server.port}/predict"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", script, url]
    environment = {**os.environ, "BENCH_BODY": str(path), "BENCH_TYPE": content_type}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    summary = json.loads(re.search(r"SUMMARY (.*)", done.stdout)[1])
    if summary["failed"] or not summary["requests"]:
        raise RuntimeError(f"{server.name} failed {summary['failed']} of {summary['requests']} requests")
    return Figures(summary["requests"] / summary["duration_us"] * 1e6, summary["p50_us"])
