"""The outermost ASGI callable: guards and bounds every request, answers the hot paths, passes the rest to FastAPI.

Under the hot front only cold requests come here; under ``--front asgi``, a test client or another server, all do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from time import monotonic_ns
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.requests import ClientDisconnect

from inferd.abc import Endpoint
from inferd.core.errors import InferdError, ModelNotReady
from inferd.protocols.shared.endpoint import Dialect
from inferd.server.front import Front, new_request_id
from inferd.telemetry.logs import request_id_context

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Most requests are answered sooner; a task that watches for the caller to leave is only worth it after this.
WATCH_AFTER_S = 0.05


class AsgiExchange:
    """One hot request over ASGI: ``abc.Exchange``, with a future that ends when it is answered or the caller left."""

    __slots__ = (
        "answer",
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
        "watcher",
    )

    def __init__(
        self, method: bytes, path: bytes, query: bytes, headers: Mapping[bytes, bytes], request_id: str
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers: Mapping[bytes, bytes] = headers
        self.request_id = request_id
        self.body = b""
        self.principal = ""
        self.status = 0
        self.received_ns = monotonic_ns()
        self.on_disconnect: Callable[[], object] | None = None
        self.answer: asyncio.Future[tuple[int, bytes, bytes] | None] = asyncio.get_running_loop().create_future()
        self.watcher: asyncio.Task[None] | None = None

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Answer; dropped when the caller has left."""
        if not self.answer.done():
            self.answer.set_result((status, headers, body))

    def watch(self, receive: Receive) -> None:
        """Start to look out for the caller leaving."""
        self.watcher = asyncio.get_running_loop().create_task(self._watch(receive))

    async def _watch(self, receive: Receive) -> None:
        message = await receive()
        if message["type"] == "http.disconnect" and not self.answer.done():
            if self.on_disconnect is not None:
                self.on_disconnect()
            if not self.answer.done():
                self.answer.set_result(None)


class Gateway:
    """ASGI application: hot routes by exact path, everything else to ``app``, both behind the guard."""

    def __init__(self, app: App, front: Front) -> None:
        self._app = app
        self._front = front
        self._waiting: dict[AsgiExchange, Receive] = {}
        self._sweep_scheduled = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope.get("raw_path") or scope["path"].encode()
        path = path.removeprefix(scope.get("root_path", "").encode())
        headers = dict(scope["headers"])
        exchange = AsgiExchange(scope["method"].encode(), path, scope["query_string"], headers, new_request_id(headers))
        front = self._front
        try:
            front.check_header_bytes(scope["headers"])
            exchange.principal = front.guard.check(exchange.method, path, headers)
            length = headers.get(b"content-length", b"")
            if len(length) >= front.max_body_digits and length.isdigit() and int(length) > front.max_body_bytes:
                raise front.too_large()
            endpoint = front.routes.get(path) or front.routes.get(unquote_to_bytes(path))
            if endpoint is not None and exchange.method == b"POST":
                sent_bytes = await self._answer_hot(endpoint, exchange, receive, send)
            else:
                sent_bytes = await self._answer_cold(exchange, scope, receive, send)
        except InferdError as error:
            sent_bytes = await _send_error(send, error, exchange, front.dialect(path))
        except asyncio.CancelledError:
            # The server has drained for as long as it may.
            if exchange.status:
                raise
            stopped = ModelNotReady("the server stopped before the answer")
            sent_bytes = await _send_error(send, stopped, exchange, front.dialect(path))
        if front.access_log is not None and exchange.status:
            front.access_log(exchange, scope.get("client"), sent_bytes)

    async def _answer_hot(self, endpoint: Endpoint, exchange: AsgiExchange, receive: Receive, send: Send) -> int:
        """Answer by the endpoint; returns the bytes of body sent."""
        message = await receive()
        body = message.get("body", b"")
        if message.get("more_body"):
            body = await self._rest_of_body(body, receive)
        if body is None or message["type"] == "http.disconnect":
            return 0
        if len(body) > self._front.max_body_bytes:
            raise self._front.too_large()
        exchange.body = body
        endpoint.handle(exchange)
        self._waiting[exchange] = receive
        if not self._sweep_scheduled:
            self._sweep_later()
        try:
            answer = await exchange.answer
        finally:
            self._waiting.pop(exchange, None)
            if exchange.watcher is not None:
                exchange.watcher.cancel()
            # The task itself was cancelled (the server gives up): nobody takes the answer any more.
            if not exchange.answer.done() and exchange.on_disconnect is not None:
                exchange.on_disconnect()
        if answer is None:
            return 0
        status, lines, body = answer
        await _send(send, exchange, status, [tuple(line.split(b": ", 1)) for line in lines[:-2].split(b"\r\n")], body)
        return len(body)

    def _sweep_later(self) -> None:
        self._sweep_scheduled = True
        asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._sweep)

    def _sweep(self) -> None:
        """Watch those who have waited for long; one timer for all of them instead of one a request (3 µs)."""
        self._sweep_scheduled = False
        since_ns = monotonic_ns() - int(WATCH_AFTER_S * 1e9)
        for exchange in [each for each in self._waiting if each.received_ns <= since_ns]:
            exchange.watch(self._waiting.pop(exchange))
        if self._waiting:
            self._sweep_later()

    async def _rest_of_body(self, first: bytes, receive: Receive) -> bytes | None:
        """The whole body, or None when the caller left. Raises ``PayloadTooLarge`` before more than that is kept."""
        chunks, size = [first], len(first)
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self._front.max_body_bytes:
                raise self._front.too_large()
            if not message.get("more_body"):
                return b"".join(chunks)

    async def _answer_cold(self, exchange: AsgiExchange, scope: Scope, receive: Receive, send: Send) -> int:
        """Answer by FastAPI; returns the bytes of body sent."""
        request_id = (b"x-request-id", exchange.request_id.encode("ascii"))
        sent_bytes = received_bytes = 0

        async def send_with_id(message: Message) -> None:
            nonlocal sent_bytes
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [*message.get("headers", ()), request_id]
            sent_bytes += len(message.get("body", b""))
            await send(message)

        async def receive_bounded() -> Message:
            nonlocal received_bytes
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if received_bytes > self._front.max_body_bytes:
                raise self._front.too_large()
            return message

        token = request_id_context.set(exchange.request_id)
        try:
            scope.setdefault("state", {}).update(principal=exchange.principal, exchange=exchange)
            await self._app(scope, receive_bounded, send_with_id)
        except ClientDisconnect:  # before the whole body was there
            exchange.status = 0
        finally:
            request_id_context.reset(token)
        return sent_bytes


async def _send(send: Send, exchange: AsgiExchange, status: int, headers: list[Any], body: bytes) -> None:
    exchange.status = status
    headers.append((b"content-length", b"%d" % len(body)))
    headers.append((b"x-request-id", exchange.request_id.encode("ascii")))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_error(send: Send, error: InferdError, exchange: AsgiExchange, dialect: Dialect) -> int:
    status, body = dialect.phrase(error, exchange.request_id)
    headers = [(b"content-type", dialect.error_type)]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status in (413, 431):
        headers.append((b"connection", b"close"))
    await _send(send, exchange, status, headers, body)
    return len(body)
