"""Exposures on their way to the store: taken at once on the loop, written by a thread, never in anybody's way."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Protocol

from inferd.experiments.events import Exposure

logger = logging.getLogger("inferd.experiments")

RETRY_S = 1.0


class Sink(Protocol):
    """Where exposures end."""

    def add_exposures(self, batch: list[Exposure]) -> None:
        """Keep all of them, or raise and keep none."""
        ...


class ExposureLog:
    """A bounded queue before a sink. When the sink fails, what waits is tried again each second; when the queue is
    full, the newest are dropped and counted. A killed process loses what came in the last ``flush_interval_s``, and
    all that waits while the sink fails."""

    def __init__(
        self, sink: Sink, *, max_pending: int = 100_000, flush_interval_s: float = 0.5, max_batch: int = 2_000
    ) -> None:
        self.dropped = 0
        self._sink = sink
        self._max_pending = max_pending
        self._flush_interval_s = flush_interval_s
        self._max_batch = max_batch
        self._pending: deque[Exposure] = deque()
        self._wake = threading.Event()
        self._flushed = threading.Condition()
        self._taken = self._written = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="inferd-exposures", daemon=True)
        self._thread.start()

    def put(self, exposure: Exposure) -> None:
        """Take one; never blocks, never raises."""
        if len(self._pending) >= self._max_pending:
            self.dropped += 1
            return
        self._pending.append(exposure)
        self._taken += 1

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was put before is stored; False when that takes longer. Not for the loop's thread."""
        wanted = self._taken
        self._wake.set()
        with self._flushed:
            return self._flushed.wait_for(lambda: self._written >= wanted, timeout_s)

    def close(self, timeout_s: float) -> None:
        """Write what waits, within ``timeout_s``, and end."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        failing = False
        while not (self._closing and (not self._pending or failing)):
            self._wake.wait(RETRY_S if failing else self._flush_interval_s)
            self._wake.clear()
            while self._pending:
                batch = [self._pending[i] for i in range(min(self._max_batch, len(self._pending)))]
                try:
                    self._sink.add_exposures(batch)
                # Whatever a database raises: predictions go on, and the exposures wait.
                except Exception as error:
                    if not failing:
                        logger.error("exposures cannot be stored, they wait: %s", str(error).splitlines()[0])
                    failing = True
                    break
                if failing:
                    logger.info("exposures are stored again")
                failing = False
                for _ in batch:
                    self._pending.popleft()
                with self._flushed:
                    self._written += len(batch)
                    self._flushed.notify_all()
