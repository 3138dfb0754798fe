"""``ModelStreamInfer``: the requests of a stream, each through the shared hot endpoint."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from functools import partial
from typing import Any

from inferd.abc import Endpoint, Target
from inferd.core.errors import InferdError
from inferd.core.messages import InferenceRequest
from inferd.protocols.grpc.errors import CONTENT_TYPE, phrase
from inferd.protocols.grpc.exchange import OK, GrpcExchange
from inferd.protocols.grpc.service import Stream, refuse
from inferd.protocols.grpc.wire import length_field
from inferd.protocols.oip.grpc.codec import GrpcCodec
from inferd.protocols.oip.grpc.reply import GrpcReply
from inferd.protocols.oip.grpc.request import split, target_in, text
from inferd.protocols.oip.shared_memory import own
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.endpoint import Dialect
from inferd.protocols.shared.streaming import answering
from inferd.serving.servable import Servable

PROTOCOL = "oip-grpc"
DIALECT = Dialect(PROTOCOL, CONTENT_TYPE, phrase, has_headers=False)
MAX_IN_FLIGHT = 64
"""Requests of one stream that are taken before the first of them is answered; then reading waits."""


class InferStream:
    """Answers a stream's requests in the order they came; several are with the engine at a time.

    A request to a streaming model has any number of answers, among which those of other requests may come. An error is
    an answer of its own, with the request's id, and the stream goes on: Triton's "gRPC streaming" and "Decoupled
    Backends and Models".
    """

    def __init__(self, endpoint: Endpoint, context: ProtocolContext) -> None:
        self._endpoint = endpoint
        self._context = context

    async def serve(self, stream: Stream) -> None:
        """Until the caller has sent its last request and got its last answer."""
        call = _Call(stream)
        reader = asyncio.create_task(self._read(call))
        stream.on_drain = reader.cancel
        try:
            while (exchange := await call.waiting.get()) is not None:
                await exchange.answered()
                call.taken.discard(exchange)
                await call.write(_message(exchange))
            await asyncio.gather(*call.tasks)
        finally:
            reader.cancel()
            for task in call.tasks:
                task.cancel()
            for exchange in call.taken:
                exchange.leave()
        with contextlib.suppress(asyncio.CancelledError):
            await reader

    async def _read(self, call: _Call) -> None:
        try:
            while (body := await call.stream.read()) is not None:
                exchange = call.stream.exchange(body)
                target = self._streaming_target(body)
                if target is None:
                    call.taken.add(exchange)
                    self._endpoint.handle(exchange)
                    await call.waiting.put(exchange)
                else:
                    await call.room.acquire()
                    call.begin(self._answer_parts(call, exchange, target))
        finally:
            await call.waiting.put(None)

    def _streaming_target(self, body: bytes) -> Target | None:
        """What a request asks for when that gives several responses; a request that cannot be read is refused later."""
        try:
            target = target_in(body)
        except InferdError:
            return None
        ticket = self._context.engine.table.tickets.get(target)
        return target if ticket is not None and ticket.servable.streaming else None

    async def _answer_parts(self, call: _Call, exchange: GrpcExchange, target: Target) -> None:
        if self._context.regions is not None:
            own(exchange)
        try:
            with answering(self._context, PROTOCOL, target, exchange, partial(_decode, exchange)) as found:
                responses, reply, _ = found
                async for outputs in responses:
                    await call.write(length_field(2, reply.encode_part(outputs)))
                end = reply.encode_end()
            if end:
                await call.write(length_field(2, end))
        except Exception as error:
            refuse(exchange, error)
            await call.write(_message(exchange))


class _Call:
    """One streamed call: requests with one answer wait in order, those with several have a task each."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.waiting: asyncio.Queue[GrpcExchange | None] = asyncio.Queue(MAX_IN_FLIGHT)
        self.taken: set[GrpcExchange] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.room = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._turn = asyncio.Lock()

    def begin(self, answers: Coroutine[Any, Any, None]) -> None:
        """Run ``answers`` beside the others; room for it was taken before."""
        task = asyncio.create_task(answers)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    async def write(self, message: bytes) -> None:
        """Send one message; only one may be under way."""
        async with self._turn:
            await self.stream.write(message)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self.room.release()
        if not task.cancelled():
            task.exception()  # the caller left while something was written; nobody needs to hear of it


def _decode(exchange: GrpcExchange, servable: Servable) -> tuple[InferenceRequest, GrpcReply]:
    codec: GrpcCodec = servable.bound[PROTOCOL].codec
    return codec.decode(exchange.body, exchange.headers)


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
