"""A server with small Python models in a thread, and a raw socket to talk to it byte by byte."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import dataclass, field

import numpy as np

from inferd.core.errors import InvalidInput
from inferd.server.live import wanted_object
from inferd.server.run import ServerHandle
from inferd.server.settings import load_settings, model_defaults


class Double:
    """Doubles its input; waits at ``gate`` while a test holds it shut, and counts the rows it executed."""

    inputs = {"x": "FP32[-1, 2]"}
    outputs = {"y": "FP32[-1, 2]"}
    batchable = True

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.batches = []

    def predict(self, x: np.ndarray) -> np.ndarray:
        self.entered.set()
        assert self.gate.wait(30)
        self.batches.append(x.copy())
        if (x == -1).any():
            raise InvalidInput("minus one is not for this model")
        if (x == -2).any():
            raise RuntimeError("a secret path: /etc/shadow")
        return x * 2


@dataclass
class Reply:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self):
        return json.loads(self.body)


class Wire:
    """One connection, spoken to in bytes."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.file = self.socket.makefile("rb")

    def send(self, *chunks):
        for chunk in chunks:
            self.socket.sendall(chunk)
        return self

    def read(self):
        """One whole answer; an interim 100 counts as one."""
        line = self.file.readline()
        assert line, "the server closed the connection"
        status = int(line.split()[1])
        headers = {}
        while (line := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.file.readline(), 16):
                body += self.file.read(size)
                self.file.readline()
            self.file.readline()
        else:
            body = self.file.read(int(headers.get("content-length", 0)))
        return Reply(status, headers, body)

    def at_end(self):
        """Whether the server has closed."""
        return self.file.read(1) == b""

    def close(self):
        self.file.close()
        self.socket.close()


class Served:
    """A running server over one live model, and ``others`` by their names."""

    def __init__(self, model, others=None, **flags):
        settings, _ = load_settings(file=None, env={}, flags={"port": 0, "keep_alive_s": 30.0, **flags})
        self.model = model
        models = {"double": model, **(others or {})}
        wanted = [wanted_object(each, name, model_defaults(settings)) for name, each in models.items()]
        self.handle = ServerHandle(settings, wanted)
        self.port = int(self.handle.url.rpartition(":")[2])
        self._wires = []
        self.wait_until_ready()

    def wait_until_ready(self):
        for _ in range(500):
            if self.get("/ready").status == 200:
                return
            time.sleep(0.01)
        raise AssertionError(self.get("/ready").body)

    def wire(self, port=None):
        self._wires.append(Wire(port or self.port))
        return self._wires[-1]

    def ask(self, raw):
        return self.wire().send(raw).read()

    def get(self, path, *headers):
        return self.ask(request(path, method="GET", headers=headers))

    def predict(self, instances, *headers):
        return self.ask(predict(instances, *headers))

    def stop(self):
        self.model.gate.set()
        for wire in self._wires:
            wire.close()
        self.handle.stop()


def request(path, body=b"", *, method="POST", headers=()):
    """A whole request as bytes; ``headers`` are whole lines."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if method == "POST" and not any(line.lower().startswith(("content-length", "transfer-enc")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def predict(instances, *headers, path="/predict"):
    return request(path, json.dumps({"instances": instances}).encode(), headers=headers)


def eventually(check):
    """Wait until ``check()`` holds; fails after ten seconds."""
    for _ in range(1000):
        if check():
            return
        time.sleep(0.01)
    raise AssertionError(f"never happened: {check}")
