"""Hot: one gRPC request whose message is whole, and the way to answer it once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic_ns

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
    text. Used on the loop's thread only.
    """

    __slots__ = (
        "_waiter",
        "answer",
        "answer_headers",
        "body",
        "headers",
        "method",
        "on_disconnect",
        "path",
        "principal",
        "query",
        "received_ns",
        "request_id",
        "status",
    )

    def __init__(self, path: bytes, headers: Mapping[bytes, bytes], body: bytes, *, request_id: str) -> None:
        self.method = b"POST"
        self.path = path
        self.query = b""
        self.headers = headers
        self.body = body
        self.principal = ""
        self.request_id = request_id
        self.received_ns = monotonic_ns()
        self.on_disconnect: Callable[[], None] | None = None
        self.status = -1
        self.answer_headers = b""
        self.answer = b""
        self._waiter: asyncio.Future[None] | None = None

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Answer; ``status`` is 200 or the number of a gRPC status."""
        self.status = OK if status == _HTTP_OK else status
        self.answer_headers = headers
        self.answer = body
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def answered(self) -> None:
        """Return once there is an answer. A caller that leaves meanwhile cancels the request."""
        if self.status >= 0:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.leave()
            raise

    def leave(self) -> None:
        """The caller has left: give the request up."""
        if self.status < 0 and self.on_disconnect is not None:
            self.on_disconnect()
