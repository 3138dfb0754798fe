"""A real server and KServe's own clients, unmodified, in the environment that `make` keeps for them."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from serve_support import EXAMPLES, KSERVE_PYTHON, Process, free_port

SCRIPT = Path(__file__).with_name("kserve_calls.py")
CALLS = re.findall(r"async def ((?:v1|v2|grpc)_\w+)\(\)", SCRIPT.read_text())


@pytest.fixture(scope="module", params=["grpcio", "native"])
def outcomes(request, tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("kserve"), free_port()
    flags = ("--grpc-port", port, "--grpc-front", request.param)
    with Process(folder, "serve", EXAMPLES / "iris-onnx", EXAMPLES / "topic", *flags) as process:
        process.wait_ready()
        command = [KSERVE_PYTHON, SCRIPT, process.port, port]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("call", CALLS)
def test_kserves_client_works_unchanged(outcomes, call):
    assert outcomes[call] == ""
