"""The gRPC listener whose HTTP/2 runs in Rust: unary calls come in batches; all others go to grpcio behind it.

Hot: benchmarks/grpc_calls.py. A thread waits for the first calls and posts them to the loop with one wake-up; while
the loop is busy with calls it takes the next ones itself, without the thread.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pygrpc_native import EVENT_CALL, NativeGrpcFront

from inferd.abc import Endpoint
from inferd.core.errors import ConfigError, ModelNotReady, PayloadTooLarge
from inferd.protocols.grpc.exchange import OK, GrpcExchange
from inferd.server.front import Front, new_request_id
from inferd.server.grpc_queue import QueueGrpcServer
from inferd.server.grpc_services import (
    GrpcServices,
    KnownMetadata,
    address_of,
    client_of,
    refuse_address,
    status_message,
    trailers_of,
)
from inferd.server.settings import Settings
from inferd.serving.servable import Servable

MAX_EVENTS = 256
MAX_STREAMS = 1024
"""Calls at a time on one connection."""
POLL_S, LAST_PIECE_S = 0.005, 0.05


class NativeGrpcServer:
    """See ``GrpcListener``. ``behind`` answers what is no unary call, on a socket of its own."""

    def __init__(self, services: GrpcServices, behind: QueueGrpcServer, front: Front, settings: Settings) -> None:
        """Raises ``ConfigError`` for TLS, which this listener does not have."""
        if settings.tls_certificate:
            raise ConfigError("--grpc-front native has no TLS: leave it out, or let a proxy end TLS before it")
        self.address = ""
        self.refusal = ""
        self._services = services
        self._behind = behind
        self._guard = front.guard
        self._access_log = front.access_log
        self._settings = settings
        self._max_bytes = int(settings.grpc_max_message_mb * (1 << 20))
        self._table: list[tuple[bytes, tuple[bytes, bytes], Endpoint]] = [
            (method.path.encode(), method.alike, method.endpoint)
            for method in services.methods
            if method.endpoint is not None
        ]
        self._calls: dict[int, GrpcExchange] = {}
        self._metadata = KnownMetadata()
        self._loop = asyncio.get_running_loop()
        self._front: NativeGrpcFront | None = None
        self._resume = threading.Semaphore(0)
        self._folder = ""
        self._stopping: asyncio.Task[None] | None = None
        self._emptied = asyncio.Event()

    def bind(self, servable: Servable) -> None:
        """Prepare a version that has become ready."""
        self._services.bind(servable)

    async def start(self) -> None:
        """See ``GrpcListener``."""
        try:
            address = address_of(self._settings)
            self._folder = tempfile.mkdtemp(prefix="inferd-grpc-")
            socket = str(Path(self._folder, "behind"))
            self._behind.listen(f"unix:{socket}")
            front = self._make_front(address)
            front.set_fallback(socket)
            front.start()
        except (OSError, RuntimeError) as error:
            self.refusal = refuse_address(self._settings, error)
            return
        self._front = front
        self.address = address
        threading.Thread(target=self._receive, args=(front,), name="inferd-grpc", daemon=True).start()

    def begin_stop(self, grace_s: float) -> None:
        """Take no more calls; what was accepted may finish within ``grace_s`` seconds."""
        if self._stopping is None:
            self._behind.begin_stop(grace_s)
            self._stopping = self._loop.create_task(self._stop(grace_s))

    async def stopped(self) -> None:
        """Return when the last call has ended."""
        self.begin_stop(0)
        if self._stopping is not None:
            await self._stopping

    def _make_front(self, address: str) -> NativeGrpcFront:
        settings = self._settings
        return NativeGrpcFront(
            address,
            [(path.decode(), False) for path, _, _ in self._table],
            io_threads=1,
            call_details=True,
            metrics=True,
            max_concurrent_streams=MAX_STREAMS,
            max_metadata_size=settings.max_header_kb << 10,
        )

    async def _stop(self, grace_s: float) -> None:
        until_s = self._loop.time() + grace_s
        try:
            async with asyncio.timeout(grace_s):
                while self._calls:
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            for exchange in tuple(self._calls.values()):
                self._left(exchange.call[0])
        await self._behind.stopped()
        if self._front is not None:
            await self._written(self._front, until_s)
            self._front.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _written(self, front: NativeGrpcFront, until_s: float) -> None:
        """Return when every answer has been handed to its connection: closing drops what has not. Only the front's
        counts tell, and the last piece may still be on its way."""
        while _unanswered(front) and self._loop.time() < until_s:
            await asyncio.sleep(POLL_S)
        await asyncio.sleep(LAST_PIECE_S)

    def _receive(self, front: NativeGrpcFront) -> None:
        """In the thread: wait for calls, hand them to the loop, and wait until it has no more to take."""
        while (events := front.recv_batch_details(MAX_EVENTS)) is not None:
            try:
                self._loop.call_soon_threadsafe(self._received, front, events)
            except RuntimeError:  # the loop has closed
                return
            self._resume.acquire()

    def _received(self, front: NativeGrpcFront, events: Sequence[Any] | None) -> None:
        if not events:
            self._resume.release()
            return
        for kind, call_id, method_id, payload, _, details in events:
            if kind == EVENT_CALL:
                self._begin(call_id, method_id, payload, details)
            else:
                self._left(call_id)
        self._loop.call_soon(self._take_more, front)

    def _take_more(self, front: NativeGrpcFront) -> None:
        self._received(front, front.recv_batch_details(MAX_EVENTS, 0))

    def _begin(self, call_id: int, method_id: int, body: bytes, details: Any) -> None:
        path, (verb, alike), endpoint = self._table[method_id]
        metadata, peer, remaining_s = details
        headers = self._metadata.headers(metadata, remaining_s)
        exchange = GrpcExchange(
            path, headers, body, request_id=new_request_id(headers), call=(call_id, peer), on_answer=self._answer
        )
        self._calls[call_id] = exchange
        try:
            if self._stopping is not None:
                raise ModelNotReady("the server is stopping", retry_after_s=1)
            if len(body) > self._max_bytes:
                raise PayloadTooLarge(f"the message has {len(body)} bytes, the limit is {self._max_bytes}")
            exchange.principal = self._guard.check(verb, alike, headers)
        except Exception as error:
            endpoint.refuse(exchange, error)
        else:
            endpoint.handle(exchange)

    def _answer(self, exchange: GrpcExchange) -> None:
        call_id, peer = exchange.call
        self._forget(call_id)
        front = self._front
        assert front is not None  # calls come from nowhere else
        headers, body = exchange.answer_headers, exchange.answer
        if exchange.status != OK:
            trailers = trailers_of(exchange.request_id, headers)
            front.fail(call_id, exchange.status, status_message(body), trailers)
        elif headers:
            front.respond(call_id, body, None, trailers_of(exchange.request_id, headers))
        else:
            front.respond(call_id, body)
        if self._access_log is not None:
            self._access_log(exchange, client_of(peer), len(body))

    def _left(self, call_id: int) -> None:
        """The caller has cancelled, or its deadline is over."""
        exchange = self._calls.get(call_id)
        if exchange is not None:
            self._forget(call_id)
            exchange.leave()

    def _forget(self, call_id: int) -> None:
        self._calls.pop(call_id, None)
        if self._stopping is not None and not self._calls:
            self._emptied.set()


def _unanswered(front: NativeGrpcFront) -> bool:
    methods = (front.metrics() or {}).get("methods", {}).values()
    return any(each["started"] > sum(status["count"] for status in each["status"].values()) for each in methods)
