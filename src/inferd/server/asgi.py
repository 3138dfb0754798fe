"""The outermost ASGI callable: guards and bounds every request, answers the hot paths, passes the rest to FastAPI.

Under the hot front only cold requests come here; under ``--front asgi``, a test client or another server, all do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from time import monotonic_ns
from typing import Any
from urllib.parse import unquote_to_bytes

from inferd.abc import Endpoint
from inferd.core.errors import InferdError
from inferd.protocols.native.problem import problem
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
        self.on_disconnect: Callable[[], None] | None = None
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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        path = scope.get("raw_path") or scope["path"].encode()
        path = path.removeprefix(scope.get("root_path", "").encode())
        method = scope["method"].encode()
        exchange = AsgiExchange(method, path, scope["query_string"], headers, new_request_id(headers))
        send = self._observed(send, exchange, scope)
        token = request_id_context.set(exchange.request_id)
        try:
            self._front.check_header_bytes(scope["headers"])
            exchange.principal = self._front.guard.check(method, path, headers)
            limited = _bounded(receive, headers, self._front)
            endpoint = self._front.routes.get(path) or self._front.routes.get(unquote_to_bytes(path))
            if endpoint is not None and method == b"POST":
                await _answer_hot(endpoint, exchange, limited, send)
            else:
                scope.setdefault("state", {})["principal"] = exchange.principal
                await self._app(scope, limited, send)
        except InferdError as error:
            await _send_problem(send, error, exchange.request_id)
        finally:
            request_id_context.reset(token)

    def _observed(self, send: Send, exchange: AsgiExchange, scope: Scope) -> Send:
        """``send`` that adds the request id, and writes the access log's line at the end."""
        request_id = (b"x-request-id", exchange.request_id.encode("ascii"))
        sent_bytes = 0

        async def observed(message: Message) -> None:
            nonlocal sent_bytes
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [*message.get("headers", ()), request_id]
            else:
                sent_bytes += len(message.get("body", b""))
            await send(message)
            is_end = message["type"] != "http.response.start" and not message.get("more_body")
            if is_end and self._front.access_log is not None:
                self._front.access_log(exchange, scope.get("client"), sent_bytes)

        return observed


async def _answer_hot(endpoint: Endpoint, exchange: AsgiExchange, receive: Receive, send: Send) -> None:
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    exchange.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    endpoint.handle(exchange)
    timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, exchange.watch, receive)
    try:
        answer = await exchange.answer
    finally:
        timer.cancel()
        if exchange.watcher is not None:
            exchange.watcher.cancel()
        # The task itself was cancelled (the server gives up): nobody takes the answer any more.
        if not exchange.answer.done() and exchange.on_disconnect is not None:
            exchange.on_disconnect()
    if answer is not None:
        status, lines, body = answer
        pairs = [tuple(line.split(b": ", 1)) for line in lines.split(b"\r\n") if line]
        await _send(send, status, [*pairs, (b"content-length", b"%d" % len(body))], body)


async def _send(send: Send, status: int, headers: list[Any], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_problem(send: Send, error: InferdError, request_id: str) -> None:
    status, body = problem(error, request_id=request_id)
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 413:
        headers.append((b"connection", b"close"))
    await _send(send, status, headers, body)


def _bounded(receive: Receive, headers: Mapping[bytes, bytes], front: Front) -> Receive:
    """``receive`` that raises ``PayloadTooLarge`` before more than the limit of body is kept."""
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > front.max_body_bytes:
        raise front.too_large()
    received = 0

    async def receive_bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > front.max_body_bytes:
            raise front.too_large()
        return message

    return receive_bounded
