"""What a gRPC service tells the server about its methods. Group ``inferd.grpc_services``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from inferd.abc import Endpoint, Exchange
from inferd.core.errors import InferdError
from inferd.protocols.grpc.errors import phrase
from inferd.protocols.grpc.exchange import GrpcExchange
from inferd.protocols.grpc.schema import read_message
from inferd.serving.servable import Servable

logger = logging.getLogger("inferd.protocols")

_SUCCESS = 200


class Stream(Protocol):
    """One call with any number of messages each way. ``on_drain`` is called when the server begins to stop; what was
    taken by then may still be answered."""

    on_drain: Callable[[], object] | None

    async def read(self) -> bytes | None:
        """The next message; None after the last."""
        ...

    async def write(self, message: bytes) -> None:
        """Send a message; returns when the caller's window has room for it."""
        ...

    def exchange(self, body: bytes) -> GrpcExchange:
        """An exchange for one message of this call, with the call's metadata and a request id of its own."""
        ...


class StreamEndpoint(Protocol):
    """Answers streamed calls; used on the loop's thread."""

    async def serve(self, stream: Stream) -> None:
        """Read and write until the call is over."""
        ...


@dataclass(frozen=True, slots=True)
class Method:
    """One method. ``path`` is ``/package.Service/Method``. Exactly one of ``endpoint`` and ``stream`` is given.

    ``alike`` is the HTTP method and path of the same right, which the guard knows: reading a public path needs no
    key, and a path in the admin scope needs that scope here too.
    """

    path: str
    alike: tuple[bytes, bytes]
    endpoint: Endpoint | None = None
    stream: StreamEndpoint | None = None


class GrpcService(Protocol):
    """Methods of one wire protocol over gRPC, made with the ``ProtocolContext``."""

    api_version: int
    name: str

    def methods(self) -> Sequence[Method]:
        """Every method of the protocol's services."""
        ...

    def bind(self, servable: Servable) -> None:
        """Prepare a version that has become ready."""
        ...


class MessageEndpoint:
    """A unary method as a function from the request's message to the answer's."""

    def __init__(self, request: str, answer: Callable[[Any], Any]) -> None:
        self._request = request
        self._answer = answer

    def handle(self, exchange: Exchange) -> None:
        """Answer ``exchange``; never raises."""
        try:
            message = self._answer(read_message(self._request, exchange.body))
            exchange.respond(_SUCCESS, b"", message.SerializeToString())
        except Exception as error:
            self.refuse(exchange, error)

    def refuse(self, exchange: Exchange, error: Exception) -> None:
        """Answer with ``error``."""
        refuse(exchange, error)


class AwaitedEndpoint:
    """The same for an answer that has to be waited for, or that needs the caller's key id. What is done for it goes on
    when the caller leaves."""

    def __init__(self, request: str, answer: Callable[[Any, str], Awaitable[Any]]) -> None:
        self._request = request
        self._answer = answer
        self._running: set[asyncio.Task[None]] = set()

    def handle(self, exchange: Exchange) -> None:
        """Answer ``exchange`` later; never raises."""
        task = asyncio.get_running_loop().create_task(self._handle(exchange))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _handle(self, exchange: Exchange) -> None:
        try:
            message = await self._answer(read_message(self._request, exchange.body), exchange.principal)
            exchange.respond(_SUCCESS, b"", message.SerializeToString())
        except Exception as error:
            self.refuse(exchange, error)

    def refuse(self, exchange: Exchange, error: Exception) -> None:
        """Answer with ``error``."""
        refuse(exchange, error)


def refuse(exchange: Exchange, error: Exception) -> None:
    """Answer with ``error``; one that is not ours is a defect and goes to the log."""
    if not isinstance(error, InferdError):
        logger.error("a defect while answering", exc_info=error, extra={"request_id": exchange.request_id})
    status, message = phrase(error, exchange.request_id)
    exchange.respond(status, b"", message)
