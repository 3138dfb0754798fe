"""Callers that wait for a version to be loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

Key = tuple[str, int]
"""A model's name and a version."""


class Waiters:
    """Calls back those who wait, at the latest after ``wait_s`` seconds. Used on the loop's thread only."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._waiting: dict[Key, dict[Callable[[], None], asyncio.TimerHandle]] = {}

    def add(self, key: Key, callback: Callable[[], None], waited_s: float = 0.0) -> Callable[[], None] | None:
        """Wait for ``key``, after ``waited_s`` of waiting; the answer ends that without a call.

        None when nobody may wait, or not any longer.
        """
        if waited_s >= self._wait_s:
            return None
        timer = asyncio.get_running_loop().call_later(self._wait_s - waited_s, self._expire, key, callback)
        self._waiting.setdefault(key, {})[callback] = timer
        return partial(self._forget, key, callback)

    def notify(self, key: Key) -> None:
        """What they wait for is there, or will not come."""
        for callback, timer in self._waiting.pop(key, {}).items():
            timer.cancel()
            callback()

    def _forget(self, key: Key, callback: Callable[[], None]) -> None:
        timer = self._waiting.get(key, {}).pop(callback, None)
        if timer is not None:
            timer.cancel()

    def _expire(self, key: Key, callback: Callable[[], None]) -> None:
        self._forget(key, callback)
        callback()
