"""A real server and clients made with ``tensorflow-serving-api``, unmodified."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from serve_support import Process, free_port

SCRIPT = Path(__file__).with_name("tfserving_calls.py")
CALLS = re.findall(r"def (call_\w+)\(\)", SCRIPT.read_text())
TYPES = [
    "BOOL",
    *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
    "FP16",
    "BF16",
    "FP32",
    "FP64",
]
MODELS = f"""
import numpy as np

TYPES = {[*TYPES, "BYTES"]!r}


class Echo:
    inputs = {{each.lower(): f"{{each}}[-1]" for each in TYPES}}
    outputs = {{f"{{each.lower()}}_out": f"{{each}}[-1]" for each in TYPES}}
    batchable = True

    def predict(self, {", ".join([*map(str.lower, TYPES), "bytes"])}):
        given = locals()
        return {{f"{{each.lower()}}_out": given[each.lower()] for each in TYPES}}


class Size:
    inputs = {{"image_bytes": "BYTES[-1]"}}
    outputs = {{"outputs": "FP32[-1]"}}
    batchable = True

    def predict(self, image_bytes):
        return np.float32([len(each) for each in image_bytes])


class Scores(Size):
    outputs = {{"scores": "FP32[-1, 2]"}}

    def predict(self, image_bytes):
        sizes = super().predict(image_bytes)
        return np.stack([sizes, sizes / 2], axis=1)
"""


@pytest.fixture(scope="module", params=["grpcio", "native"])
def outcomes(request, tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("tfserving"), free_port()
    paths = []
    for name in ("Echo", "Size", "Scores"):
        (folder / f"{name.lower()}.py").write_text(MODELS)
        paths.append(f"{name.lower()}.py:{name}")
    with Process(folder, "serve", *paths, "--grpc-port", port, "--grpc-front", request.param) as process:
        process.wait_ready()
        done = subprocess.run([sys.executable, SCRIPT, str(port)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("call", CALLS)
def test_clients_of_tf_serving_work_unchanged(outcomes, call):
    assert outcomes[call] == ""
