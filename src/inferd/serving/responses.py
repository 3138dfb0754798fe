"""The responses to one request, one by one, from the thread in which the model runs to whoever sends them on.

Few wait at a time: a model that is faster than its caller reads is held up, and one whose caller has left is told to
stop.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Mapping

import numpy as np

from inferd.abc import Exchange
from inferd.core.errors import DeadlineExceeded
from inferd.core.messages import InferenceRequest
from inferd.serving.engine import Engine
from inferd.serving.servable import Ticket

MAX_WAITING = 16
"""Responses that may wait to be sent."""
MAX_STALL_S = 60.0
"""How long a model waits for a caller who does not read; then the request fails, and the instance is free again."""

Outputs = Mapping[str, np.ndarray]


class Responses:
    """What one request is answered with: any number of responses from a streaming model, one from any other.

    An ``async for`` over it gives them and raises the request's error, after the responses that came before it.
    ``close()`` is owed at the end, early or not: it cancels what still runs and releases the ticket. Used on the loop's
    thread, but for ``put``.
    """

    def __init__(self, engine: Engine, ticket: Ticket, loop: asyncio.AbstractEventLoop) -> None:
        self.request: InferenceRequest | None = None
        self._engine = engine
        self._ticket = ticket
        self._loop = loop
        self._room = threading.Semaphore(MAX_WAITING)
        self._ready: deque[Outputs] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self._closed = False

    def start(self, request: InferenceRequest, exchange: Exchange) -> None:
        """Submit ``request``, which came with ``exchange``. Raises what ``Engine.submit`` raises."""
        self.request = request
        servable = self._ticket.servable
        request.on_done = self._done
        if servable.streaming:
            request.sink = self
        elif servable.capture is not None:
            servable.capture.follow(request, exchange, servable)
        self._engine.submit(self._ticket, request)

    def put(self, outputs: Outputs) -> bool:
        """Take a response in the model's thread, waiting for room; False when no more are wanted."""
        if not self._ended and not self._room.acquire(timeout=MAX_STALL_S):
            self._loop.call_soon_threadsafe(self._stalled)
            return False
        if self._ended:
            return False
        self._loop.call_soon_threadsafe(self._arrived, outputs)
        return True

    def close(self) -> None:
        """Give up what still runs, and let go of the version. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._end()
        if self.request is not None:
            self.request.cancel()
        self._ticket.release()

    def __aiter__(self) -> Responses:
        return self

    async def __anext__(self) -> Outputs:
        while not self._ready and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        if self._ready:
            self._room.release()
            return self._ready.popleft()
        if self.request is not None and self.request.error is not None:
            raise self.request.error
        raise StopAsyncIteration

    def _arrived(self, outputs: Outputs) -> None:
        self._ready.append(outputs)
        self._changed.set()

    def _stalled(self) -> None:
        if self.request is not None:
            self.request.fail(DeadlineExceeded(f"the caller has not read for {MAX_STALL_S:g} s"))

    def _done(self, request: InferenceRequest) -> None:
        """The request's callback. A streaming model has given its responses before."""
        if request.outputs:
            self._ready.append(request.outputs)
        self._end()

    def _end(self) -> None:
        self._ended = True
        self._room.release()  # the model's thread may wait there
        self._changed.set()
