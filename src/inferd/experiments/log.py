"""Events on their way to the store: taken at once on the loop, written by a thread, never in anybody's way."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Protocol

from inferd.experiments.events import Event, UnstorableEvents

logger = logging.getLogger("inferd.experiments")

RETRY_S = 1.0


class Sink(Protocol):
    """Where events end."""

    def add_events(self, batch: list[Event]) -> None:
        """Keep all of them, or raise and keep none: ``UnstorableEvents`` when that is due to one of them."""
        ...


class EventLog:
    """A bounded queue before a sink. When the sink fails, what waits is tried again each second; when the queue is
    full, the newest are dropped and counted, and so is an event that no store takes. A killed process loses what came
    in the last ``flush_interval_s``, and all that waits while the sink fails.

    ``dropped`` counts what was never stored.
    """

    def __init__(
        self, sink: Sink, *, max_pending: int = 100_000, flush_interval_s: float = 0.5, max_batch: int = 2_000
    ) -> None:
        self.dropped = 0
        self._sink = sink
        self._max_pending = max_pending
        self._flush_interval_s = flush_interval_s
        self._max_batch = max_batch
        self._at_once = max_batch
        self._pending: deque[Event] = deque()
        self._wake = threading.Event()
        self._flushed = threading.Condition()
        self._taken = self._settled = self._failures = 0
        self._failing = self._closing = False
        self._thread = threading.Thread(target=self._run, name="inferd-events", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Take one; never blocks, never raises."""
        if len(self._pending) >= self._max_pending:
            self.dropped += 1
            return
        self._pending.append(event)
        self._taken += 1

    @property
    def pending(self) -> int:
        """How many wait to be stored."""
        return len(self._pending)

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was put before is settled; False when that takes longer, or the sink fails. Not for the
        loop's thread."""
        with self._flushed:
            wanted, failures = self._taken, self._failures
            self._wake.set()
            self._flushed.wait_for(lambda: self._settled >= wanted or self._failures > failures, timeout_s)
            return self._settled >= wanted

    def close(self, timeout_s: float) -> None:
        """Write what waits, within ``timeout_s``, and end. What the sink does not take by then is counted and lost."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)
        if self._pending:
            self.dropped += len(self._pending)
            logger.error("%d events could not be stored and are lost", len(self._pending))

    def _run(self) -> None:
        while not (self._closing and (not self._pending or self._failing)):
            self._wake.wait(RETRY_S if self._failing else self._flush_interval_s)
            self._wake.clear()
            while self._pending and self._write():
                pass

    def _write(self) -> bool:
        """Store the oldest; False when the sink fails."""
        batch = [self._pending[i] for i in range(min(self._at_once, len(self._pending)))]
        try:
            self._sink.add_events(batch)
        except UnstorableEvents as error:
            # Ever fewer at once, until it is known which one it is.
            self._at_once = len(batch) // 2
            if not self._at_once:
                logger.error("an event cannot be stored and is dropped: %s", error)
                self.dropped += 1
                self._settle(1)
            return True
        # Whatever a database raises: predictions go on, and the events wait.
        except Exception as error:
            self._note_failure(error)
            return False
        if self._failing:
            logger.info("events are stored again")
        self._settle(len(batch))
        return True

    def _settle(self, count: int) -> None:
        """The oldest ``count`` are done with."""
        self._at_once = self._max_batch
        for _ in range(count):
            self._pending.popleft()
        with self._flushed:
            self._failing = False
            self._settled += count
            self._flushed.notify_all()

    def _note_failure(self, error: Exception) -> None:
        if not self._failing:
            reason = str(error.__cause__ or error).partition("\n")[0]
            logger.error("events cannot be stored, they wait: %s", reason)
        with self._flushed:
            self._failing = True
            self._failures += 1
            self._flushed.notify_all()
