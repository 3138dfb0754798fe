"""gRPC: calls a second of inferd's ModelInfer with a real model against a bare `grpc.aio` echo, side by side.

Usage: grpc_calls.py [--seconds 3] [--rounds 3]. Each side is a process of its own, so is the caller.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import grpc
import numpy as np
from models import model_path

from inferd.protocols.grpc.schema import message_class

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


async def rate(port: int, connections: int, seconds: float) -> float:
    """Calls a second, each connection asking again as soon as it is answered."""
    body, done = request_bytes(), 0
    # Without this option, channels to one address share one connection.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) for _ in range(connections)]
    end = time.perf_counter() + seconds

    async def caller(channel: grpc.aio.Channel) -> None:
        nonlocal done
        call = channel.unary_unary(METHOD)
        while time.perf_counter() < end:
            assert await call(body)
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*map(caller, channels))
    took = time.perf_counter() - started
    for channel in channels:
        await channel.close()
    return done / took


async def wait_for(port: int) -> None:
    for _ in range(300):
        try:
            await rate(port, 1, 0.01)
            return
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.1)
    raise RuntimeError("the server does not answer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--echo", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.echo:
        asyncio.run(echo(options.echo))
        return
    ports = {"echo": free_port(), "inferd": free_port()}
    folder = str(model_path("logistic").parents[1])
    inferd = [sys.executable, "-c", "from inferd.cli.main import main; main()", "serve", folder]
    commands = {
        "echo": [sys.executable, str(Path(__file__)), "--echo", str(ports["echo"])],
        "inferd": [*inferd, "--port", str(free_port()), "--grpc-port", str(ports["inferd"])],
    }
    processes = [subprocess.Popen(each, stderr=subprocess.DEVNULL) for each in commands.values()]
    try:
        for port in ports.values():
            asyncio.run(wait_for(port))
        for connections in (1, 64):
            ratios, rates = [], {"echo": 0.0, "inferd": 0.0}
            for _ in range(options.rounds):
                for name, port in ports.items():
                    rates[name] = asyncio.run(rate(port, connections, options.seconds))
                ratios.append(rates["inferd"] / rates["echo"])
            print(
                f"{connections} connections: {statistics.median(ratios):.2f} of echo "
                f"[{min(ratios):.2f}-{max(ratios):.2f}]; last: {rates['inferd']:.0f} to {rates['echo']:.0f} calls/s"
            )
    finally:
        for process in processes:
            process.kill()


if __name__ == "__main__":
    main()
