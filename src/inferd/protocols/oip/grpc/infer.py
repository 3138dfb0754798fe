"""``ModelInfer`` and ``ModelStreamInfer``: the shared hot endpoint, asked for the model that the message names."""

from __future__ import annotations

import asyncio
import contextlib

from inferd.abc import Exchange
from inferd.protocols.grpc.errors import CONTENT_TYPE, phrase
from inferd.protocols.grpc.exchange import OK, GrpcExchange
from inferd.protocols.grpc.service import Stream, refuse
from inferd.protocols.grpc.wire import length_field
from inferd.protocols.oip.grpc.request import split, target_of, text
from inferd.protocols.oip.shared_memory import OwnedEndpoint
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.endpoint import Dialect, HotEndpoint

PROTOCOL = "oip-grpc"
DIALECT = Dialect(PROTOCOL, CONTENT_TYPE, phrase)
MAX_IN_FLIGHT = 64
"""Requests of one stream that are taken before the first of them is answered; then reading waits."""


class InferEndpoint:
    """Finds the target in the message and leaves the rest to the ``HotEndpoint`` of that target."""

    def __init__(self, context: ProtocolContext) -> None:
        self._context = context

    def handle(self, exchange: Exchange) -> None:
        """Answer ``exchange``, now or later; never raises."""
        try:
            parts = split(exchange.body)
            target = target_of(text(parts.name, "model_name"), text(parts.version, "model_version"))
        except Exception as error:
            self._context.metrics.count_unrouted(PROTOCOL, _outcome(error))
            self.refuse(exchange, error)
            return
        endpoint = HotEndpoint(self._context, target, DIALECT)
        (OwnedEndpoint(endpoint) if self._context.regions is not None else endpoint).handle(exchange)

    def refuse(self, exchange: Exchange, error: Exception) -> None:
        """Answer with ``error``; the server's own checks call this."""
        refuse(exchange, error)


class InferStream:
    """Answers a stream's requests in the order they came; several are with the engine at a time.

    An error is an answer of its own, with the request's id, and the stream goes on: Triton's "gRPC streaming".
    """

    def __init__(self, endpoint: InferEndpoint) -> None:
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


def _outcome(error: Exception) -> str:
    code = getattr(error, "code", None)
    return code.value.lower() if code is not None else "internal"
