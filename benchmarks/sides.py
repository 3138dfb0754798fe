"""The servers that are compared: how each is started on a free port, asked whether it answers, and stopped."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from forms import Message

HERE = Path(__file__).parent
NODE_FOLDER = HERE / "node"
START_TIMEOUT_S = 60.0
NOTHING = Message(b"")


class Server:
    """One running side. ``port`` is on loopback; ``pid`` is its process."""

    def __init__(self, name: str, command: Sequence[str], port: int, environment: dict[str, str], cwd: Path) -> None:
        self.name = name
        self.port = port
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self.started_s = time.perf_counter()
        self.process = subprocess.Popen(
            command, cwd=cwd, env={**os.environ, **environment}, stdout=self.log, stderr=subprocess.STDOUT
        )

    def ask(
        self, method: str, path: str, message: Message = NOTHING, content_type: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one request on a connection of its own; status 0 while nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": content_type, "Accept": content_type or "*/*", **message.headers}
        try:
            connection.request(method, path, message.body, headers)
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        except (ConnectionError, TimeoutError):
            return 0, {}, b""
        finally:
            connection.close()

    def wait(self, method: str, path: str, message: Message = NOTHING, content_type: str = "") -> float:
        """Seconds from the start of the process to the first 200; raises with its log when it ends or hangs."""
        while time.perf_counter() - self.started_s < START_TIMEOUT_S and self.process.poll() is None:
            if self.ask(method, path, message, content_type)[0] == 200:
                return time.perf_counter() - self.started_s
            time.sleep(0.005)
        self.log.seek(0)
        raise RuntimeError(f"{self.name} does not answer:\n{self.log.read().decode()[-2000:]}")

    def resident_mb(self) -> float:
        """Resident memory of the process, in megabytes (10^6 bytes), from the kernel's VmRSS."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
        return int(line.split()[1]) * 1024 / 1e6

    def stop(self) -> None:
        """Ask the process to end, and make it after ten seconds."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


@contextmanager
def running(name: str, model: Path) -> Iterator[Server]:
    """Start the side ``name`` with ``model`` (an ONNX file in a model folder), stop it at the end."""
    port = _free_port()
    command, cwd = _command(name, model, port)
    server = Server(name, command, port, {"BENCH_MODEL": str(model)}, cwd)
    try:
        yield server
    finally:
        server.stop()


def install_node() -> None:
    """Install the node side once. Its runtime's CPU library is in the package; the script that would fetch the
    libraries for GPUs from elsewhere is not run."""
    if not (NODE_FOLDER / "node_modules" / "onnxruntime-node").exists():
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
        subprocess.run(command, cwd=NODE_FOLDER, check=True, capture_output=True)


def have_node() -> bool:
    """Whether the node side can run on this machine."""
    return shutil.which("node") is not None and shutil.which("npm") is not None


def _command(name: str, model: Path, port: int) -> tuple[list[str], Path]:
    python = [sys.executable, "-m"]
    folder = str(model.parent.parent)
    uvicorn = [*python, "uvicorn", "--port", str(port), "--no-access-log", "--http", "httptools", "--loop", "uvloop"]
    ours = [str(Path(sys.executable).parent / "inferd"), "serve", folder, "--port", str(port)]
    commands = {
        "ours": (ours, HERE),
        "asgi": ([*ours, "--front", "asgi"], HERE),
        "naive": ([*uvicorn, "naive:app"], HERE / "servers"),
        "echo": ([*uvicorn, "echo:app"], HERE / "servers"),
        "node": (["node", "server.js", str(model), str(port)], NODE_FOLDER),
    }
    return commands[name]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
