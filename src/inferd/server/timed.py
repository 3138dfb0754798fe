"""uvicorn's connection with inferd's timeouts and header limit: what the front under ``--front asgi`` runs on.

Connections are looked at once a second instead of starting and ending timers with each request.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from inferd.core.errors import InferdError, RequestTimeout
from inferd.server.front import Front

# What a connection waits for; the timeouts are indexed by these.
IDLE, HEADERS, BODY, ANSWER = range(4)
REAP_EVERY_S = 1.0


class TimedProtocol(HttpToolsProtocol):
    """One connection. ``front`` is set on a subclass by ``timed_protocol``."""

    front: Front
    _seen: tuple[object, int] = (None, -1)
    _seen_at_s = 0.0
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which by itself would keep headers of any size."""
        super().data_received(data)
        if self._stage()[1] != HEADERS:
            self._head_bytes = 0
        elif not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > self.front.max_header_bytes:
                self._end_with(self.front.headers_too_large())

    def _stage(self) -> tuple[object, int]:
        """What changes with each request, and what the connection waits for."""
        cycle = self.cycle
        if cycle is None:
            return None, HEADERS
        if cycle.response_complete:
            # uvicorn's own timer runs while nothing was heard since the answer.
            return cycle, HEADERS if self.timeout_keep_alive_task is None and not cycle.more_body else IDLE
        # While earlier requests wait for their turn, reading is paused: the caller cannot go on.
        return cycle, BODY if cycle.more_body and not self.pipeline else ANSWER

    def reap(self, now_s: float, timeouts_s: tuple[float, float, float, float]) -> None:
        """Called every second: end a connection that stayed in one stage for longer than its timeout."""
        stage = self._stage()
        if stage != self._seen:
            self._seen, self._seen_at_s = stage, now_s
        elif now_s - self._seen_at_s >= timeouts_s[stage[1]]:
            self._time_out(stage[1])

    def _time_out(self, waiting_for: int) -> None:
        nothing_sent = self.scope is None
        if waiting_for == IDLE or nothing_sent or (waiting_for == BODY and self.cycle.response_started):
            self.transport.close()
        else:
            self._end_with(RequestTimeout("the request took too long to arrive"))

    def _end_with(self, error: InferdError) -> None:
        """Answer what never became a request, and close."""
        self.write_refusal(error)
        self.transport.close()

    def write_refusal(self, error: InferdError) -> None:
        """Write ``error`` as the last answer of this connection."""
        status, headers, body = self.front.refusal(error)
        self.front.render_default(self.server_state.default_headers)
        self.transport.write(
            b"%b%b%bconnection: close\r\ncontent-length: %d\r\n\r\n%b"
            % (STATUS_LINE[status], self.front.default_block, headers, len(body), body)
        )


def timed_protocol(front: Front) -> type[TimedProtocol]:
    """The protocol class to give to uvicorn, bound to ``front``."""
    return type("BoundTimedProtocol", (TimedProtocol,), {"front": front})


async def reap_connections(front: Front, connections: set[Any]) -> None:
    """Watch the stages of all connections: an attribute or two a request instead of three timers."""
    loop = asyncio.get_running_loop()
    timeouts_s = (front.keep_alive_s, front.header_timeout_s, front.body_timeout_s, float("inf"))
    while True:
        await asyncio.sleep(REAP_EVERY_S)
        now_s = loop.time()
        for connection in tuple(connections):
            connection.reap(now_s, timeouts_s)
