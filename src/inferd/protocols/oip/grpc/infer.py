"""``ModelStreamInfer``: the requests of a stream, each through the shared hot endpoint."""

from __future__ import annotations

import asyncio
import contextlib

from inferd.abc import Endpoint
from inferd.protocols.grpc.errors import CONTENT_TYPE, phrase
from inferd.protocols.grpc.exchange import OK, GrpcExchange
from inferd.protocols.grpc.service import Stream
from inferd.protocols.grpc.wire import length_field
from inferd.protocols.oip.grpc.request import split, text
from inferd.protocols.shared.endpoint import Dialect

PROTOCOL = "oip-grpc"
DIALECT = Dialect(PROTOCOL, CONTENT_TYPE, phrase)
MAX_IN_FLIGHT = 64
"""Requests of one stream that are taken before the first of them is answered; then reading waits."""


class InferStream:
    """Answers a stream's requests in the order they came; several are with the engine at a time.

    An error is an answer of its own, with the request's id, and the stream goes on: Triton's "gRPC streaming".
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def serve(self, stream: Stream) -> None:
        """Until the caller has sent its last request and got its last answer."""
        waiting: asyncio.Queue[GrpcExchange | None] = asyncio.Queue(MAX_IN_FLIGHT)
        taken: set[GrpcExchange] = set()
        reader = asyncio.create_task(self._read(stream, waiting, taken))
        stream.on_drain = reader.cancel
        try:
            while (exchange := await waiting.get()) is not None:
                await exchange.answered()
                taken.discard(exchange)
                await stream.write(_message(exchange))
        finally:
            reader.cancel()
            for exchange in taken:
                exchange.leave()
        with contextlib.suppress(asyncio.CancelledError):
            await reader

    async def _read(
        self, stream: Stream, waiting: asyncio.Queue[GrpcExchange | None], taken: set[GrpcExchange]
    ) -> None:
        try:
            while (body := await stream.read()) is not None:
                exchange = stream.exchange(body)
                taken.add(exchange)
                self._endpoint.handle(exchange)
                await waiting.put(exchange)
        finally:
            await waiting.put(None)


def _message(exchange: GrpcExchange) -> bytes:
    """A ``ModelStreamInferResponse``."""
    if exchange.status == OK:
        return length_field(2, exchange.answer)
    return length_field(1, exchange.answer) + length_field(2, length_field(3, _id_of(exchange.body)))


def _id_of(body: bytes) -> bytes:
    """The request's id; empty when there is none to be read."""
    try:
        request_id = split(body).request_id
        text(request_id, "id")
    except Exception:
        return b""
    return request_id
