"""A real ``inferd serve`` in a process of its own."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples" / "models"
KSERVE_PYTHON = Path(sys.prefix) / "kserve" / "bin" / "python"
"""The interpreter of the environment that has KServe's client; `make test` makes it."""
INFERD = (sys.executable, "-c", "from inferd.cli.main import main; raise SystemExit(main())")
_numbers = itertools.count()
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("INFERD_")}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """``inferd ARGS``, or ``command ARGS``, with its output in a file; killed at the end of the ``with`` block."""

    def __init__(self, folder, *args, env=None, port=None, command=None):
        self.port = port or free_port()
        self.log = Path(folder) / f"output-{next(_numbers)}.txt"
        command = [*(command or INFERD), *map(str, args)]
        if args[0] == "serve":
            command += ["--port", str(self.port)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stderr=log,
                stdout=log,
                cwd=folder,
                env={**CLEAN, "COLUMNS": "200", "XDG_STATE_HOME": str(Path(folder) / ".state"), **(env or {})},
            )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.wait()

    def ask(self, method, path, body=None, headers=None):
        """Status, headers and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def predict(self, instances, path="/predict", **headers):
        body = json.dumps({"instances": instances})
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", path, body, {"Content-Type": "application/json", **names})

    def json(self, path, **headers):
        return json.loads(self.ask("GET", path, headers=headers)[2])

    def command(self, *arguments):
        """``inferd ARGUMENTS``, told to ask this server: its exit code, standard output and standard error."""
        done = subprocess.run(
            [*INFERD, *arguments, "--url", f"http://127.0.0.1:{self.port}"],
            capture_output=True,
            text=True,
            env=CLEAN,
            timeout=60,
        )
        return done.returncode, done.stdout, done.stderr

    def wait_listening(self):
        return self.wait_for(lambda: self.ask("GET", "/health")[0] == 200)

    def wait_ready(self):
        return self.wait_for(lambda: self.ask("GET", "/ready")[0] == 200)

    def wait_for(self, check, seconds=60):
        """Wait until ``check()`` holds while the process lives."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if check():
                    return self
            except OSError:
                pass
            assert self.process.poll() is None, self.output
            time.sleep(0.02)
        raise AssertionError(self.output)

    @property
    def output(self):
        return re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text())

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self

    def exit_code(self, seconds=60):
        return self.process.wait(seconds)


GATED = '''
import time
from pathlib import Path
import numpy as np

class Model:
    """Doubles; waits in load and predict for as long as the files `hold-load` and `hold` are there."""
    inputs = {"x": "FP32[-1, 2]"}
    outputs = {"y": "FP32[-1, 2]"}
    batchable = True
    here = Path(__file__).parent

    def load(self):
        while (self.here / "hold-load").exists():
            time.sleep(0.01)

    def predict(self, x: np.ndarray) -> np.ndarray:
        (self.here / "entered").touch()
        while (self.here / "hold").exists():
            time.sleep(0.005)
        return x * 2
'''


def gated_model(folder):
    """A Python model that a test can hold up; returns its file."""
    path = Path(folder) / "gated.py"
    path.write_text(GATED)
    return path
