"""One work on one server: the check of its answers against ONNX Runtime, and wrk's figures."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from forms import Form
from models import FOLDER, example
from sides import Server

CHECKED_SEEDS = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured: successful requests a second and the median latency in microseconds, 0 where that is not
    known."""

    requests_per_s: float
    p50_us: float


def check_answers(server: Server, model: str, form: Form, truth: onnxruntime.InferenceSession) -> None:
    """Raise unless the server's answers to several inputs are ONNX Runtime's own; echo must return the body."""
    for seed in CHECKED_SEEDS:
        tensor = example(model, seed)
        message = form.write(tensor)
        status, headers, answer = server.ask("POST", form.path.format(model), message, form.content_type)
        if status != 200:
            raise RuntimeError(f"{server.name} answered {status} to {model} as {form.name}: {answer[:500]!r}")
        if server.name == "echo":
            assert answer == message.body, "echo returned something else"
            continue
        truly = truth.run(["y"], {"x": tensor})[0]
        np.testing.assert_allclose(form.read(answer, headers), truly, rtol=1e-3, atol=1e-4, err_msg=server.name)


def measure(server: Server, model: str, form: Form, connections: int, seconds: float) -> Figures:
    """Load the server from one wrk thread with connections kept alive. Raises when any answer was no success."""
    path = FOLDER / f"{model}.{form.name}"
    message = form.write(example(model, 0))
    path.write_bytes(message.body)
    script = str(Path(__file__).parent / "load.lua")
    url = f"http://127.0.0.1:{server.port}{form.path.format(model)}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", script]
    for name, value in message.headers.items():
        command += ["-H", f"{name}: {value}"]
    environment = {**os.environ, "BENCH_BODY": str(path), "BENCH_TYPE": form.content_type}
    done = subprocess.run([*command, url], env=environment, capture_output=True, text=True, check=True)
    summary = json.loads(re.search(r"SUMMARY (.*)", done.stdout)[1])
    if summary["failed"] or not summary["requests"]:
        raise RuntimeError(f"{server.name} failed {summary['failed']} of {summary['requests']} requests")
    return Figures(summary["requests"] / summary["duration_us"] * 1e6, summary["p50_us"])
