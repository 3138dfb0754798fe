"""The hot front: a uvicorn protocol class that answers hot paths from the parser's callbacks.

No ASGI scope, task or coroutine is made for a hot request; every other request goes uvicorn's own way untouched.
One request is in flight per connection, later ones wait in order, hot and cold mixed. Reading stays on meanwhile, as
with reading paused nobody learns that the caller left. Hot: benchmarks/run.py; the promises are in docs/hot-path.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from time import monotonic_ns
from typing import Any, NamedTuple

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from inferd.abc import Endpoint
from inferd.core.errors import HeadersTooLarge, InferdError, MalformedRequest, RequestTimeout
from inferd.server.front import Front, new_request_id
from inferd.server.timed import ANSWER, BODY, HEADERS, IDLE, TimedProtocol

logger = logging.getLogger("inferd.server")

PIPELINE_LIMIT_BYTES = 65536
# What a waiting request counts besides its body, so that empty ones do not pile up either.
QUEUED_REQUEST_BYTES = 512
LINGER_S = 0.1


class HotExchange:
    """One hot request on one connection: ``abc.Exchange``, and what uvicorn's class looks at in its own cycles."""

    # Class attributes rather than slots: what most requests never touch costs them nothing.
    method = b"POST"
    body = b""
    chunks: list[bytes] | None = None
    received_bytes = 0
    principal = ""
    refusal: InferdError | None = None
    on_disconnect: Callable[[], object] | None = None
    disconnected = False
    response_complete = False
    status = 0

    def __init__(
        self,
        protocol: HotProtocol,
        endpoint: Endpoint,
        path: bytes,
        query: bytes,
        headers: Mapping[bytes, bytes],
        keep_alive: bool,
    ) -> None:
        self.protocol = protocol
        self.endpoint = endpoint
        self.path = path
        self.query = query
        self.headers: Mapping[bytes, bytes] = headers
        self.keep_alive = keep_alive
        self.received_ns = monotonic_ns()
        self.request_id = new_request_id(headers)

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Write the answer; nothing is written when the caller has left."""
        if self.response_complete:
            return
        self.status = status
        self.response_complete = True
        # Exchange, callback and request would hold each other until the collector comes.
        self.on_disconnect = None
        if not self.disconnected:
            self.protocol.write_response(self, headers, body)

    @property
    def message_event(self) -> HotExchange:
        """uvicorn wakes the cycle of a lost connection; there is nobody to wake here."""
        return self

    def set(self) -> None:
        """See ``message_event``."""

    def __repr__(self) -> str:
        state = "left" if self.disconnected else f"answered {self.status}" if self.status else "open"
        return f"<HotExchange {self.path.decode('latin-1')} {self.request_id} {state}>"


class KnownHead(NamedTuple):
    """The head of a request as the parser read it, and the length of the whole request, head and body."""

    head: bytes
    length: int
    path: bytes
    query: bytes
    headers: Mapping[bytes, bytes]


class HotProtocol(TimedProtocol):
    """One connection. ``front`` is set on a subclass by ``hot_protocol``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # uvicorn's signature, passed on as it is
        super().__init__(*args, **kwargs)
        self.active: Any = None
        self.phase = HEADERS
        self.progress = 0
        self.url = b""
        self.headers = []
        self._header_bytes = 0
        self._chunk = b""
        self._chunk_bytes = 0
        self._known: KnownHead | None = None
        self._queued_bytes = 0
        self._continue_pending = False
        self._broken: InferdError | None = None
        self._lingering = False
        self._closing = False

    # What the parser tells

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what cannot be parsed is answered after everything before it."""
        if self._broken is not None or self._lingering:
            return
        known = self._known
        if known is not None and data.startswith(known.head) and self._repeat(known, data):
            return
        self._chunk = data
        self._chunk_bytes = len(data)
        try:
            self.parser.feed_data(data)
            if self.phase == HEADERS:
                self._count_headers()
            self._chunk = b""
        except httptools.HttpParserUpgrade:
            self._unsupported_upgrade_warning()
        except httptools.HttpParserError:
            if self._broken is None:
                self._break(MalformedRequest("this is not HTTP/1.1"))

    def _repeat(self, known: KnownHead, data: bytes) -> bool:
        """Handle ``data`` without the parser when it is one whole request whose head is, byte for byte, one that the
        parser has read on this connection before: it would only find the same again (6 µs of 23). False when it is
        not that."""
        front = self.front
        if len(data) != known.length or self.active is not None or self.phase != IDLE:
            return False
        if self._closing or self.flow.write_paused:
            return False
        endpoint = front.routes.get(known.path)
        if endpoint is None:
            return False
        exchange = HotExchange(self, endpoint, known.path, known.query, known.headers, True)
        self.cycle = exchange  # type: ignore[assignment]  # stands where uvicorn keeps its own
        self.phase = ANSWER
        self.progress += 1
        try:
            exchange.principal = front.guard.check(b"POST", known.path, known.headers)
        except InferdError as error:
            self._refuse(exchange, error)
            return True
        exchange.body = data[len(known.head) :]
        self.active = exchange
        endpoint.handle(exchange)
        return True

    def _remember(self, exchange: HotExchange) -> None:
        """Keep the head of a request that came whole in one chunk, alone, with a plain body."""
        body, chunk = exchange.body, self._chunk
        end = len(chunk) - len(body)
        if (
            exchange.keep_alive
            and self.active is None
            and exchange.headers.get(b"content-length") == b"%d" % len(body)
            and b"transfer-encoding" not in exchange.headers
            and b"expect" not in exchange.headers
            and chunk.startswith(b"POST ")
            and chunk.find(b"\r\n\r\n") == end - 4
        ):
            self._known = KnownHead(chunk[:end], len(chunk), exchange.path, exchange.query, exchange.headers)

    def on_message_begin(self) -> None:
        """A request begins: nothing is made yet but what the parser fills."""
        self.url = b""
        self.headers = []
        # The chunk it begins in does not count, as most of it may belong to the request before.
        self._header_bytes = -self._chunk_bytes
        self.phase = HEADERS
        self.progress += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self.headers.append((name.lower(), value))

    def _count_headers(self) -> None:
        """The headers are not complete: keep what came within the limit."""
        self._header_bytes += self._chunk_bytes
        if self._header_bytes > self.front.max_header_bytes:
            self._break(self.front.headers_too_large())

    def _headers_fit(self) -> bool:
        """Exactly, for the rare request whose chunks were larger than the limit."""
        try:
            self.front.check_header_bytes(self.headers)
        except HeadersTooLarge as error:
            self._break(error)
            return False
        return True

    def on_headers_complete(self) -> None:
        """Hot or cold is decided here: an exact path in the table and POST is hot."""
        front = self.front
        limit = front.max_header_bytes
        chunks_fit = self._chunk_bytes <= limit and self._header_bytes + self._chunk_bytes <= limit
        if self._broken is not None or not (chunks_fit or self._headers_fit()):
            return
        parser = self.parser
        url, query = self.url, b""
        endpoint = front.routes.get(url)
        if endpoint is None and b"?" in url:
            url, _, query = url.partition(b"?")
            endpoint = front.routes.get(url)
        headers = dict(self.headers)
        if endpoint is None or parser.get_method() != b"POST" or b"upgrade" in headers:
            self._begin_cold(headers)
            return
        exchange = HotExchange(self, endpoint, url, query, headers, parser.should_keep_alive())
        self.cycle = exchange  # type: ignore[assignment]  # stands where uvicorn keeps its own
        self.phase = BODY
        self.progress += 1
        try:
            exchange.principal = front.guard.check(b"POST", url, headers)
            length = headers.get(b"content-length")
            # A number of fewer digits is a smaller number.
            if length is not None and len(length) >= front.max_body_digits and int(length) > front.max_body_bytes:
                raise front.too_large()
        except InferdError as error:
            # The body may never come, or be too large to wait for: answer now, and close.
            self._refuse(exchange, error)
            return
        if b"expect" in headers and headers[b"expect"].lower() == b"100-continue":
            self._send_continue()

    def _refuse(self, exchange: HotExchange, error: InferdError) -> None:
        exchange.refusal = error
        exchange.keep_alive = False
        exchange.body, exchange.chunks = b"", None
        self._offer(exchange)

    def on_body(self, body: bytes) -> None:
        """Keep one piece of the body; a body of one piece is never copied."""
        exchange: Any = self.cycle
        if type(exchange) is not HotExchange:
            if self._broken is None:
                super().on_body(body)
            return
        if exchange.refusal is not None:
            return
        if not exchange.body:
            exchange.body = body
        elif exchange.chunks is None:
            exchange.chunks = [exchange.body, body]
        else:
            exchange.chunks.append(body)
        exchange.received_bytes += len(body)
        if exchange.received_bytes > self.front.max_body_bytes:
            self._refuse(exchange, self.front.too_large())
        elif self.active is not None or self.flow.write_paused:
            self._count_queued(len(body))

    def on_message_complete(self) -> None:
        """The request is whole: handle it now, or after the ones before it."""
        exchange: Any = self.cycle
        self.phase = ANSWER
        self.progress += 1
        if type(exchange) is not HotExchange:
            if self._broken is None:
                super().on_message_complete()
        elif exchange.refusal is None:
            if exchange.chunks is not None:
                exchange.body = b"".join(exchange.chunks)
                exchange.chunks = None
            elif exchange.body:
                self._remember(exchange)
            self._offer(exchange)

    # One at a time, in order

    def _offer(self, exchange: HotExchange) -> None:
        if self.active is None and not self.pipeline and not self.flow.write_paused:
            self._start(exchange)
        else:
            self.pipeline.appendleft((exchange, self.app))  # type: ignore[arg-type]  # uvicorn's queue, shared
            self._count_queued(QUEUED_REQUEST_BYTES)

    def _count_queued(self, size_bytes: int) -> None:
        """Stop reading when more than the limit waits on this connection."""
        self._queued_bytes += size_bytes
        if self._queued_bytes > PIPELINE_LIMIT_BYTES:
            self.flow.pause_reading()

    def _start(self, exchange: HotExchange) -> None:
        self.active = exchange
        if exchange.refusal is None:
            exchange.endpoint.handle(exchange)
        else:
            exchange.endpoint.refuse(exchange, exchange.refusal)

    def write_response(self, exchange: HotExchange, headers: bytes, body: bytes) -> None:
        """Write status line, headers and body, then turn to the next request."""
        front, transport = self.front, self.transport
        default_headers = self.server_state.default_headers
        if default_headers is not front.default_headers:
            front.render_default(default_headers)
        keep_alive = exchange.keep_alive and not self._closing
        head = b"%b%b%bx-request-id: %b%bcontent-length: %d\r\n\r\n" % (
            STATUS_LINE[exchange.status],
            front.default_block,
            headers,
            exchange.request_id.encode("ascii"),
            b"\r\n" if keep_alive else b"\r\nconnection: close\r\n",
            len(body),
        )
        if len(body) <= PIPELINE_LIMIT_BYTES:
            transport.write(head + body)
        else:
            # Two writes rather than one more copy of a large answer.
            transport.write(head)
            transport.write(body)
        if front.access_log is not None:
            front.access_log(exchange, self.client, len(body))
        self.server_state.total_requests += 1
        self.active = None
        if keep_alive:
            if self.phase == ANSWER and not self.pipeline and not self._queued_bytes and self._broken is None:
                self.phase = IDLE
                self.progress += 1
            else:
                # Not at once: many waiting requests that are all refused would nest as deep as they are many.
                self.loop.call_soon(self._next)
        elif exchange.refusal is not None and self.phase == BODY:
            self._linger()
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        """A cold answer is whole (called by uvicorn's cycle)."""
        self.server_state.total_requests += 1
        self.active = None
        self._next()

    def _next(self) -> None:
        """Start the request that waits, if any; reading goes on, as its caller may have more to say."""
        if self.active is not None or self.flow.write_paused or self.transport.is_closing():
            return
        cycle: Any
        app: Any
        cycle, app = self.pipeline.pop() if self.pipeline else (None, None)
        if type(cycle) is HotExchange:
            self._queued_bytes -= cycle.received_bytes + QUEUED_REQUEST_BYTES
        if not self.pipeline:
            self._queued_bytes = 0
        if self._queued_bytes <= PIPELINE_LIMIT_BYTES:
            self.flow.resume_reading()
        if cycle is not None:
            if type(cycle) is HotExchange:
                self._start(cycle)
            else:
                self.active = cycle
                self._start_asgi_task(cycle, app)
        elif self._broken is not None:
            self._answer_broken(self._broken)
        elif self._continue_pending:
            self._send_continue()
        elif self._closing and self.phase == ANSWER:
            self.transport.close()
        elif self.phase == ANSWER:
            self.phase = IDLE
            self.progress += 1

    def resume_writing(self) -> None:
        """The caller reads again: go on with what waits."""
        super().resume_writing()
        self._next()

    # What is not hot

    def _begin_cold(self, headers: Mapping[bytes, bytes]) -> None:
        """Give the request to uvicorn as if this class were not there."""
        url, pairs = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.scope["headers"] = self.headers = pairs
        self.expect_100_continue = headers.get(b"expect", b"").lower() == b"100-continue"
        self.phase = BODY
        self.progress += 1
        super().on_headers_complete()
        if self.active is None:
            self.active = self.cycle
        elif self._queued_bytes <= PIPELINE_LIMIT_BYTES:
            self.flow.resume_reading()

    def _send_continue(self) -> None:
        """Ask for the body, when it is this request's turn on the wire."""
        self._continue_pending = self.active is not None
        if not self._continue_pending:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _break(self, error: InferdError) -> None:
        """Nothing more can be read from this connection; say so once everything before is answered."""
        self._broken = error
        if self.active is None:
            self._answer_broken(error)

    def _answer_broken(self, error: InferdError) -> None:
        self.write_refusal(error)
        self._linger()

    def _linger(self) -> None:
        """Close after the caller had a moment to read the answer: closing on unread data would reset it away."""
        self._lingering = True
        self.loop.call_later(LINGER_S, self.transport.close)

    # The connection's ends

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller left: what it waits for is cancelled, what it had queued is dropped."""
        active = self.active
        super().connection_lost(exc)
        self.pipeline.clear()
        if type(active) is HotExchange and not active.response_complete:
            active.disconnected = True
            if active.on_disconnect is not None:
                active.on_disconnect()
        elif active is not None and type(active) is not HotExchange:
            active.disconnected = True
            active.message_event.set()

    def shutdown(self) -> None:
        """The server stops: finish what was sent, then close. An idle connection gets a moment, as its next request
        may be on the way."""
        self._closing = True
        if self.active is None:
            self.loop.call_later(LINGER_S, self._close_if_idle)
        elif type(self.active) is not HotExchange:
            self.active.keep_alive = False

    def _close_if_idle(self) -> None:
        if self.active is None and self.phase in (IDLE, ANSWER, HEADERS):
            self.transport.close()

    def _stage(self) -> tuple[object, int]:
        return self.progress, self.phase if self.active is None or self.phase == BODY else ANSWER

    def _time_out(self, waiting_for: int) -> None:
        exchange: Any = self.cycle
        hot = type(exchange) is HotExchange
        if waiting_for == IDLE or self._broken is not None or (waiting_for == HEADERS and not self.url):
            self.transport.close()
        elif waiting_for == BODY and hot and exchange.refusal is None:
            self._refuse(exchange, RequestTimeout("the body took too long to arrive"))
        elif waiting_for == BODY and not hot and exchange.response_started:
            self.transport.close()
        else:
            self._break(RequestTimeout("the request took too long to arrive"))


def hot_protocol(front: Front) -> type[HotProtocol]:
    """The protocol class to give to uvicorn, bound to ``front``."""
    return type("BoundHotProtocol", (HotProtocol,), {"front": front})
