"""Follow the repository: look at it again when its folders change, when a copy has ended, and now and then anyway."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from inferd.core.errors import InferdError, MissingExtra
from inferd.repository.completeness import Completeness
from inferd.repository.control import ModelControl
from inferd.repository.threads import in_thread

logger = logging.getLogger("inferd.server")

DEBOUNCE_MS = 400


def check_watchable() -> None:
    """Raise ``MissingExtra`` unless changes of folders can be noticed."""
    try:
        import watchfiles  # noqa: F401
    except ImportError as error:
        raise MissingExtra("--watch", "watch") from error


class RepositoryWatch:
    """``interval_s`` is the longest time between two looks, ``settle_s`` that while a version is being copied."""

    def __init__(
        self,
        control: ModelControl,
        completeness: Completeness,
        paths: Sequence[str],
        *,
        interval_s: float,
        settle_s: float,
    ) -> None:
        self._control = control
        self._completeness = completeness
        self._folders = [path for path in paths if Path(path).is_dir()]
        self._interval_s = interval_s
        self._settle_s = settle_s
        self._changed = asyncio.Event()
        self._trouble = ""

    async def run(self) -> None:
        """Until it is cancelled."""
        listening = asyncio.create_task(self._listen())
        try:
            while True:
                pause_s = await self._pause_s()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), pause_s)
                await self._look()
        finally:
            listening.cancel()

    async def _pause_s(self) -> float:
        waiting = await in_thread(self._completeness.is_waiting)
        return min(self._settle_s, self._interval_s) if waiting else self._interval_s

    async def _look(self) -> None:
        """Serve what is there now. A look that fails changes nothing; its reason is logged once."""
        self._changed.clear()
        try:
            await self._control.rescan()
        # Whatever it is: a server that no longer looks would serve what was there for ever.
        except Exception as error:
            trouble = error.message if isinstance(error, InferdError) else repr(error)
            if trouble != self._trouble:
                unknown = None if isinstance(error, InferdError) else error
                logger.error("the repository cannot be read, what serves goes on: %s", trouble, exc_info=unknown)
            self._trouble = trouble
        else:
            if self._trouble:
                logger.info("the repository can be read again")
            self._trouble = ""

    async def _listen(self) -> None:
        """Set ``changed`` at each change. Where the system cannot tell of changes, only time does."""
        from watchfiles import awatch

        while self._folders:
            try:
                async for _ in awatch(*self._folders, debounce=DEBOUNCE_MS):
                    self._changed.set()
            except OSError as error:
                logger.warning("changes are only found every %g s: %s", self._interval_s, error)
            await asyncio.sleep(self._interval_s)
