"""gRPC: calls a second of inferd's ModelInfer with a real model, on each front, against a bare `grpc.aio` echo.

Usage: grpc_calls.py [--seconds 3] [--rounds 3]. Each side is a process of its own; the caller is h2load (nghttp2).
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

import grpc
import numpy as np
from models import model_path

from inferd.protocols.grpc.schema import message_class

START_TIMEOUT_S = 60.0
METHOD = "/inference.GRPCInferenceService/ModelInfer"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def echo(port: int) -> None:
    """The ceiling: bytes in, the same bytes out."""
    server = grpc.aio.server()

    async def answer(body: bytes, context: object) -> bytes:
        return body

    handler = grpc.method_handlers_generic_handler(
        METHOD.split("/")[1], {"ModelInfer": grpc.unary_unary_rpc_method_handler(answer)}
    )
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def request_bytes() -> bytes:
    """One row of four numbers for the logistic model."""
    row = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)
    request = message_class("inference.ModelInferRequest")(
        model_name="logistic",
        inputs=[{"name": "x", "datatype": "FP32", "shape": row.shape}],
        raw_input_contents=[row.tobytes()],
    )
    body: bytes = request.SerializeToString()
    return body


def rate(port: int, connections: int, seconds: int, body: Path) -> float:
    """Calls a second, each connection asking again as soon as it is answered."""
    command = ["h2load", "-t1", "-m1", f"-c{connections}", f"-D{seconds}s", "-d", str(body)]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers", f"http://127.0.0.1:{port}{METHOD}"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    done, failed = re.search(r"([\d.]+) req/s", text), re.search(r"(\d+) failed, (\d+) errored", text)
    if done is None or failed is None or failed.groups() != ("0", "0"):
        raise RuntimeError(text)
    return float(done[1])


def check(port: int, body: bytes) -> None:
    """Raise unless the server answers this request, once its model is loaded: h2load sees HTTP's status only."""
    end = time.monotonic() + START_TIMEOUT_S
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        while True:
            try:
                assert channel.unary_unary(METHOD)(body, timeout=START_TIMEOUT_S, wait_for_ready=True)
                return
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > end:
                    raise
            time.sleep(0.05)


def measure(ports: dict[str, int], connections: int, rounds: int, seconds: int, body: Path) -> dict[str, list[float]]:
    """Calls a second of each side in rounds in which all take turns."""
    taken: dict[str, list[float]] = {name: [] for name in ports}
    for _ in range(rounds):
        for name, port in ports.items():
            taken[name].append(rate(port, connections, seconds, body))
    return taken


@contextmanager
def running() -> Iterator[tuple[dict[str, int], Path]]:
    """Start the sides; their ports by name, the echo's first, and a file with the message that each has answered."""
    ports = {name: free_port() for name in ("echo", "grpcio", "native")}
    folder = str(model_path("logistic").parents[1])
    inferd = [sys.executable, "-c", "from inferd.cli.main import main; main()", "serve", folder]
    commands = [[sys.executable, __file__, "--echo", str(ports["echo"])]]
    for name in ("grpcio", "native"):
        flags = ["--port", str(free_port()), "--grpc-port", str(ports[name]), "--grpc-front", name]
        commands.append([*inferd, *flags])
    processes = [subprocess.Popen(each, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for each in commands]
    message = request_bytes()
    try:
        for port in ports.values():
            check(port, message)
        with NamedTemporaryFile() as file:
            file.write(b"\0" + len(message).to_bytes(4, "big") + message)
            file.flush()
            yield ports, Path(file.name)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--echo", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.echo:
        asyncio.run(echo(options.echo))
        return
    with running() as (ports, body):
        for connections in (1, 64):
            taken = measure(ports, connections, options.rounds, options.seconds, body)
            print(f"{connections} connections: echo {statistics.median(taken['echo']):.0f} calls/s")
            for name in ("grpcio", "native"):
                ratios = [ours / bare for ours, bare in zip(taken[name], taken["echo"], strict=True)]
                spread = f"{statistics.median(ratios):.2f} of echo [{min(ratios):.2f}-{max(ratios):.2f}]"
                print(f"  {name}: {statistics.median(taken[name]):.0f} calls/s, {spread}")


if __name__ == "__main__":
    main()
