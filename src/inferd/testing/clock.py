"""An event loop whose time is virtual: it jumps to the next timer instead of sleeping, so timing tests are exact."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _JumpingSelector(selectors.SelectSelector):
    """Where the loop would sleep, time passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if not events:
            if timeout is None:
                raise RuntimeError("the test waits for something that will never happen")
            self.now_s += max(0.0, timeout)
        return events


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """``loop.time()`` starts at 0 and moves only when everything waits."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now_s

    def time_ns(self) -> int:
        """The same in nanoseconds plus one, as a stamp of 0 means "not yet"; give it where a clock is asked for."""
        return round(self._jumping.now_s * 1e9) + 1

    def advance(self, seconds: float) -> None:
        """Let time pass without running anything, as a busy thread would."""
        self._jumping.now_s += seconds


def run_virtual(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run ``coroutine`` to its end on a loop of its own with virtual time."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(coroutine)
