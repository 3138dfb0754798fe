"""Look at running experiments again and again, each at its pace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from inferd.experiments.registry import Entry, ExperimentRegistry

TICK_S = 1.0
MOST_LOOKING = 20
"""Looks take at most one part in so many of the time, however much there is to see."""


async def look_regularly(
    registry: ExperimentRegistry, every_s: Callable[[Entry], float | None], look: Callable[[Entry], Awaitable[object]]
) -> None:
    """Call ``look`` with each experiment that runs, every so many seconds, until cancelled; not where those are
    None."""
    due_s: dict[str, float] = {}
    while True:
        await asyncio.sleep(TICK_S)
        for entry in registry.entries:
            pause_s = every_s(entry)
            began_s = time.monotonic()
            if pause_s is None or entry.state != "running":
                continue
            if began_s < due_s.setdefault(entry.experiment.id, began_s + pause_s):
                continue
            await look(entry)
            took_s = time.monotonic() - began_s
            due_s[entry.experiment.id] = began_s + max(pause_s, MOST_LOOKING * took_s)
