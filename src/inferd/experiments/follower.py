"""Notice what was decided about experiments on another server that shares the database."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence

from inferd.core.errors import StoreUnavailable
from inferd.experiments.definition_store import DefinitionStore, Stored

logger = logging.getLogger("inferd.experiments")

INTERVAL_S = 2.0


class Follower:
    """A thread that looks for changes every ``interval_s`` and has ``follow`` called with all experiments, on the
    loop's thread, when there was one. Made on the loop's thread, with the loop running."""

    def __init__(
        self, store: DefinitionStore, follow: Callable[[Sequence[Stored]], None], interval_s: float = INTERVAL_S
    ) -> None:
        self._store = store
        self._follow = follow
        self._interval_s = interval_s
        self._loop = asyncio.get_running_loop()
        self._last = store.last_change()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inferd-experiment-follower", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """End, within ``timeout_s``."""
        self._ended.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._ended.wait(self._interval_s):
            try:
                self._look()
            except StoreUnavailable as error:
                logger.debug("changes of experiments cannot be seen: %s", error.__cause__)

    def _look(self) -> None:
        last = self._store.last_change()
        if last == self._last:
            return
        stored = self._store.all()
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._follow, stored)
        self._last = last
