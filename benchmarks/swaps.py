"""Versions that come and go: what callers notice of 100 swaps, and what 50 cycles of load, infer, unload leave behind.

Usage: swaps.py [--swaps 100] [--cycles 50] [--every-s 0.2] [--connections 4] [--width 256] [--shared].
Each version answers its own number. Ten rounds, each of two steady seconds and a tenth of the swaps, so that what else
the machine does falls on both alike.

The callers have one processor to themselves and the server has the others: what they notice is then the server's, as if
they ran elsewhere. With ``--shared`` all take what they get. Most of what is slow is then a caller that waits for the
processor that a version is being loaded on.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

ROUNDS = 10
STEADY_S = 2.0


def write_version(model: Path, version: int, width: int) -> None:
    """A network of two layers of ``width`` whose answer to zeros is ``version``."""
    rng = np.random.default_rng(version)
    weights = [rng.normal(size=shape).astype(np.float32) for shape in ((4, width), (width, width), (width, 1))]
    tensors = [onnx.numpy_helper.from_array(array, f"w{i}") for i, array in enumerate(weights)]
    tensors.append(onnx.numpy_helper.from_array(np.array([version], np.float32), "version"))
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w1"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "w2"], ["e"]),
        helper.make_node("Add", ["e", "version"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, size]) for name, size in (("x", 4), ("y", 1))]
    graph = helper.make_graph(nodes, "version", ends[:1], ends[1:], tensors)
    folder = model / str(version)
    partial = model / f".{version}"
    partial.mkdir(parents=True)
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(file, partial / "model.onnx")
    partial.rename(folder)


def call(port: int, method: str, path: str, body: str = "") -> Any:
    """The JSON answer of one control call."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    if response.status != 200:
        raise SystemExit(f"{method} {path}: {response.status} {text.decode()}")
    return json.loads(text)


def ask_forever(port: int, connections: int, processors: set[int], pipe: Connection) -> None:
    """A process of its own: ask on each connection as soon as it is answered, until told to stop. Sends back pairs of
    time and latency in seconds, and how many answers were wrong."""
    import asyncio

    os.sched_setaffinity(0, processors)
    body = b'{"instances": [[0, 0, 0, 0]]}'
    request = (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    taken: list[tuple[float, float]] = []
    wrong = 0

    async def caller() -> None:
        nonlocal wrong
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while not pipe.poll():
            started = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            answer = await reader.readexactly(int(headers[b"content-length"]))
            now = time.perf_counter()
            taken.append((now, now - started))
            version = headers.get(b"inferd-model-version", b"0")
            if not head.startswith(b"HTTP/1.1 200") or answer != b'{"predictions":[[%d.0]]}' % int(version):
                wrong += 1

    async def main() -> None:
        await asyncio.gather(*(caller() for _ in range(connections)))

    asyncio.run(main())
    pipe.send((taken, wrong))


def p99_ms(taken: list[tuple[float, float]], windows: list[tuple[float, float]]) -> float:
    """Of what was answered within the windows."""
    times, latencies = np.array(taken).T
    within = np.any([(start <= times) & (times < end) for start, end in windows], axis=0)
    return float(np.quantile(latencies[within], 0.99) * 1e3)


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise SystemExit("no VmRSS")


@contextmanager
def asking(
    port: int, connections: int, processors: set[int]
) -> Iterator[Callable[[], tuple[list[tuple[float, float]], int]]]:
    """Callers in a process of their own: what stops them, and gives what ``ask_forever`` sends back."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=ask_forever, args=(port, connections, processors, theirs))
    process.start()

    def stop() -> tuple[list[tuple[float, float]], int]:
        ours.send("stop")
        told: tuple[list[tuple[float, float]], int] = ours.recv()
        return told

    try:
        yield stop
    finally:
        process.kill()
        process.join()


@contextmanager
def started(repository: Path, processors: set[int]) -> Iterator[tuple[int, int]]:
    """A server: its process and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    inferd = [sys.executable, "-c", "from inferd.cli.main import main; raise SystemExit(main())"]
    command = [*inferd, "serve", str(repository), "--port", str(port), "--grpc-port", "0"]
    state = {**os.environ, "XDG_STATE_HOME": str(repository.parent / "state")}
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=state)
    os.sched_setaffinity(server.pid, processors)  # before it has any thread but one
    try:
        for _ in range(1200):
            with suppress(OSError, SystemExit):
                call(port, "GET", "/ready")
                break
            time.sleep(0.05)
        yield server.pid, port
    finally:
        server.terminate()
        server.wait()


def swap(port: int, model: Path, made: Path, version: int) -> float:
    """Put a version in the place of the one before; the seconds it took."""
    (made / str(version)).rename(model / str(version))
    started = time.perf_counter()
    described = call(port, "POST", "/admin/models/m/load")
    took = time.perf_counter() - started
    ready = [each["version"] for each in described["versions"] if each["state"] == "READY"]
    if ready != [version]:
        raise SystemExit(f"version {version} does not serve alone: {described}")
    return took


def divided(shared: bool) -> tuple[set[int], set[int]]:
    """The processors of the server and those of the callers."""
    every = sorted(os.sched_getaffinity(0))
    return (set(every), set(every)) if shared or len(every) == 1 else (set(every[:-1]), {every[-1]})


def swaps(repository: Path, count: int, connections: int, width: int, every_s: float, shared: bool) -> None:
    """Swap versions while callers ask, and print what they noticed."""
    servers, callers = divided(shared)
    model, made = repository / "m", repository.parent / "made"
    for version in range(1, count + 2):
        write_version(made, version, width)
    model.mkdir(parents=True)
    (made / "1").rename(model / "1")
    (model / "model.toml").write_text("[execution]\nintra_op_threads = 1\n")
    took: list[float] = []
    steady, swapping = [], []
    with started(repository, servers) as (_, port), asking(port, connections, callers) as stop:
        time.sleep(2)
        for index in range(ROUNDS):
            begin = time.perf_counter()
            time.sleep(STEADY_S)
            between = time.perf_counter()
            versions = range(2 + index * count // ROUNDS, 2 + (index + 1) * count // ROUNDS)
            for version in versions:
                due = time.perf_counter() + every_s
                took.append(swap(port, model, made, version))
                time.sleep(max(0.0, due - time.perf_counter()))
            steady.append((begin, between))
            swapping.append((between, time.perf_counter()))
            for version in versions:
                shutil.rmtree(model / str(version - 1))
        taken, wrong = stop()
    before, during = p99_ms(taken, steady), p99_ms(taken, swapping)
    seconds = sum(end - start for start, end in swapping)
    print(f"{count} swaps in {seconds:.1f} s, one every {every_s:g} s, {np.median(took) * 1e3:.0f} ms each")
    apart = "one processor for the callers" if servers != callers else "callers and server share the processors"
    print(f"{len(taken)} requests by {connections} connections, {apart}")
    print(f"failed or answered by another version than named: {wrong}")
    print(f"p99 steady {before:.2f} ms, during swaps {during:.2f} ms: {during / before:.2f} x (bar 1.5)")


def cycles(repository: Path, count: int, width: int) -> None:
    """Load, infer and unload one version again and again, and print the resident memory."""
    write_version(repository / "m", 1, width)
    sizes = []
    with started(repository, os.sched_getaffinity(0)) as (pid, port):
        for _ in range(count):
            call(port, "POST", "/admin/models/m/load")
            for _ in range(20):
                call(port, "POST", "/predict", '{"instances": [[0, 0, 0, 0]]}')
            call(port, "POST", "/admin/models/m/unload")
            sizes.append(resident_mb(pid))
    settled = sizes[len(sizes) // 10]
    print(
        f"{count} cycles: {sizes[0]:.1f} MB after the first, {settled:.1f} after {len(sizes) // 10 + 1}, "
        f"{sizes[-1]:.1f} after the last: {100 * (sizes[-1] / sizes[0] - 1):+.1f} % (bar 5)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--every-s", type=float, default=0.2)
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--shared", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.swaps:
            swaps(
                Path(folder) / "models",
                options.swaps,
                options.connections,
                options.width,
                options.every_s,
                options.shared,
            )
    with tempfile.TemporaryDirectory() as folder:
        if options.cycles:
            cycles(Path(folder) / "models", options.cycles, options.width)


if __name__ == "__main__":
    main()
