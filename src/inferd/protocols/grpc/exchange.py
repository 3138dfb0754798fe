"""Hot: one gRPC request whose message is whole, and the way to answer it once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic_ns
from typing import Any

OK = 0
_HTTP_OK = 200
TIMEOUT = b"grpc-timeout"
"""Stands among the headers with the nanoseconds that the caller's deadline leaves, as decimal digits."""


def deadline_in(headers: Mapping[bytes, bytes]) -> int:
    """The nanoseconds that the caller's deadline leaves; 0 when there is none."""
    return int(headers.get(TIMEOUT, 0))


class GrpcExchange:
    """An ``Exchange``: ``path`` is the method's full name, ``headers`` the caller's metadata.

    ``status`` is a gRPC status number once answered, -1 before. ``answer`` is the encoded message, or the error's
    text. ``on_answer`` is called with the exchange when it is answered; ``call`` is what a listener knows the call by.
    Used on the loop's thread only.
    """

    __slots__ = (
        "answer",
        "answer_headers",
        "body",
        "call",
        "headers",
        "method",
        "on_answer",
        "on_disconnect",
        "path",
        "principal",
        "query",
        "received_ns",
        "request_id",
        "status",
    )

    def __init__(
        self,
        path: bytes,
        headers: Mapping[bytes, bytes],
        body: bytes,
        *,
        request_id: str,
        call: Any = None,
        on_answer: Callable[[GrpcExchange], object] | None = None,
    ) -> None:
        self.method = b"POST"
        self.path = path
        self.query = b""
        self.headers = headers
        self.body = body
        self.principal = ""
        self.request_id = request_id
        self.received_ns = monotonic_ns()
        self.on_disconnect: Callable[[], object] | None = None
        self.status = -1
        self.answer_headers = b""
        self.answer = b""
        self.call = call
        self.on_answer = on_answer

    def part(self, number: int, body: bytes) -> GrpcExchange:
        """An exchange for one message of this call, or one task of it, with an id of its own."""
        part = GrpcExchange(self.path, self.headers, body, request_id=f"{self.request_id}/{number}")
        part.principal = self.principal
        return part

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Answer; ``status`` is 200 or the number of a gRPC status."""
        self.status = OK if status == _HTTP_OK else status
        self.answer_headers = headers
        self.answer = body
        if self.on_answer is not None:
            self.on_answer(self)

    async def answered(self) -> None:
        """Return once there is an answer. A caller that leaves meanwhile cancels the request."""
        if self.status >= 0:
            return
        answered = asyncio.Event()
        self.on_answer = lambda exchange: answered.set()
        try:
            await answered.wait()
        except asyncio.CancelledError:
            self.leave()
            raise

    def leave(self) -> None:
        """The caller has left: give the request up."""
        if self.status < 0 and self.on_disconnect is not None:
            self.on_disconnect()
