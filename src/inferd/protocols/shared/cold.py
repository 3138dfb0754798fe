"""Answer a request of a cold route by a hot endpoint: other methods, other spellings of its path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic_ns

from fastapi import Request
from fastapi.responses import Response

from inferd.abc import Endpoint, Exchange


class ColdExchange:
    """An ``Exchange`` of a request that came over ASGI, whose answer becomes a response."""

    def __init__(self, outer: Exchange, body: bytes) -> None:
        self.method = outer.method
        self.path = outer.path
        self.query = outer.query
        self.headers: Mapping[bytes, bytes] = outer.headers
        self.body = body
        self.principal = outer.principal
        self.request_id = outer.request_id
        self.received_ns = monotonic_ns()
        self.on_disconnect: Callable[[], object] | None = None
        self.answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Answer; dropped when the caller has left."""
        if not self.answer.done():
            response = Response(body, status_code=status)
            for line in headers[:-2].split(b"\r\n"):
                name, _, value = line.partition(b": ")
                response.headers[name.decode("latin-1")] = value.decode("latin-1")
            self.answer.set_result(response)


async def answer_by(endpoint: Endpoint, request: Request) -> Response:
    """What ``endpoint`` answers to ``request``; it is cancelled when this is."""
    exchange = ColdExchange(request.scope["state"]["exchange"], await request.body())
    endpoint.handle(exchange)
    try:
        return await exchange.answer
    except asyncio.CancelledError:
        if exchange.on_disconnect is not None:
            exchange.on_disconnect()
        raise
