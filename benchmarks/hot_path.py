"""What one request costs inside the process: bytes to the hot front, bytes back, no socket. Microseconds of this
thread's processor time, the least of several rounds, so a busy machine disturbs little.

Usage: hot_path.py [--model FILE] [--connections 64] [--route v2] [SETTING=VALUE …], such as
`server_timing=false otel=true` or `experiments=FOLDER` with an experiment on the model `model`.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

import uvicorn
import uvloop
from models import model_path
from uvicorn.server import ServerState

from inferd.server.assembly import assemble
from inferd.server.hot import HotProtocol, hot_protocol
from inferd.server.scan import scan_paths
from inferd.server.settings import load_settings

# Short rounds: a few of them meet nobody else on the machine.
ROUNDS = 1000
REQUESTS = 256
V2 = b"/v2/models/model/infer"
ROUTES = {
    "native": (b"/predict", b'{"instances": [[5.1, 3.5, 1.4, 0.2]]}', b""),
    "v2": (V2, b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}', b""),
    "v2-binary": (
        V2,
        b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}],'
        b'"outputs":[{"name":"y","parameters":{"binary_data":true}}]}',
        bytes(16),
    ),
    "sagemaker": (b"/invocations", b"[[5.1, 3.5, 1.4, 0.2]]", b""),  # with protocols=sagemaker
    "tfserving": (b"/v1/models/model:predict", b'{"instances": [[5.1, 3.5, 1.4, 0.2]]}', b""),
}


def request_of(route: str) -> bytes:
    path, text, tensors = ROUTES[route]
    length = b"Inference-Header-Content-Length: %d\r\n" % len(text) if tensors else b""
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n"
    return head % (path, length, len(text) + len(tensors)) + text + tensors


class Wire(asyncio.Transport):
    """Takes answers and counts the good ones."""

    good = 0

    def write(self, data: bytes) -> None:  # type: ignore[override]
        Wire.good += data.startswith(b"HTTP/1.1 200")

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def is_closing(self) -> bool:
        return False


async def measure(model: Path, connections: int, request: bytes, flags: dict[str, str]) -> float:
    settings, _ = load_settings(file=None, env={}, flags={"paths": (str(model),), **flags})
    assembly = assemble(settings, scan_paths(settings), ())
    await assembly.repository.load_all()
    config = uvicorn.Config(assembly.gateway, lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"Mon, 01 Jan 2024 00:00:00 GMT"), (b"server", b"inferd")]
    kind = hot_protocol(assembly.front)
    protocols = [kind(config, state, {}, asyncio.get_running_loop()) for _ in range(connections)]
    for protocol in protocols:
        protocol.connection_made(Wire())
    await turns(protocols, request, REQUESTS // connections)
    best = float("inf")
    for _ in range(ROUNDS):
        started, good = time.thread_time(), Wire.good
        await turns(protocols, request, REQUESTS // connections)
        best = min(best, (time.thread_time() - started) / (Wire.good - good) * 1e6)
    return best


async def turns(protocols: list[HotProtocol], request: bytes, count: int) -> None:
    """Each connection asks once a turn, and all are answered before the next."""
    for _ in range(count):
        answered = Wire.good + len(protocols)
        for protocol in protocols:
            protocol.data_received(request)
        while Wire.good < answered:
            await asyncio.sleep(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--route", choices=ROUTES, default="native")
    parser.add_argument("settings", nargs="*", metavar="SETTING=VALUE")
    options = parser.parse_args()
    flags = dict(setting.split("=", 1) for setting in options.settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        model, request = options.model or model_path("logistic"), request_of(options.route)
        cost = runner.run(measure(model, options.connections, request, flags))
    print(f"{cost:.1f} us a {options.route} request, {options.connections} connections {' '.join(options.settings)}")


if __name__ == "__main__":
    main()
