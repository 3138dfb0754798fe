"""Older versions in the place of the latest ones that fail, so that a restart brings back what served."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from inferd.core.errors import InferdError
from inferd.core.lifecycle import VersionState
from inferd.repository.desired import Choose
from inferd.repository.repository import ModelRepository

logger = logging.getLogger("inferd.repository")


class StandIns:
    """Looks at the repository again when what has failed changes the versions that ``choose`` picks. ``failed`` is what
    that goes by; it is filled here. Used on the loop's thread only."""

    def __init__(
        self,
        repository: ModelRepository,
        failed: dict[str, frozenset[int]],
        choose: Choose,
        rescan: Callable[[], Awaitable[None]],
    ) -> None:
        self._repository = repository
        self._failed = failed
        self._choose = choose
        self._rescan = rescan
        self._is_news = False
        self._following: asyncio.Task[None] | None = None
        repository.on_outcome = self._note
        if any(record.state is VersionState.FAILED for record in repository.records):
            self._note()

    async def settled(self, names: Collection[str]) -> None:
        """Return when no step is under way for these models, nor for what stands in for theirs."""
        await self._repository.settled(names)
        while self._following is not None:
            await asyncio.wait({self._following})
            await self._repository.settled(names)

    def _note(self) -> None:
        """A version has become ready, or has failed."""
        self._is_news = True
        if self._following is None:
            self._following = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        try:
            while self._is_news:
                self._is_news = False
                self._remember_failed()
                if self._changes_choice():
                    await self._rescan()
        # Whatever it is: the next outcome is looked at again.
        except Exception as error:
            unknown = None if isinstance(error, InferdError) else error
            logger.error("nothing stands in for versions that failed: %s", error, exc_info=unknown)
        finally:
            self._following = None

    def _remember_failed(self) -> None:
        found: dict[str, set[int]] = {}
        for record in self._repository.records:
            # One that is tried again has not served yet.
            if record.current and (record.state is VersionState.FAILED or (record.attempt > 1 and not record.is_ready)):
                found.setdefault(record.model, set()).add(record.version)
        for name in [name for name, failed in self._failed.items() if not failed]:
            del self._failed[name]
        # One by one, since a thread may be reading; those of which nothing failed any more are looked at once again.
        for name in {*self._failed, *found}:
            self._failed[name] = frozenset(found.get(name, ()))

    def _changes_choice(self) -> bool:
        """Whether other versions are to be served now."""
        changes = False
        for name, failed in self._failed.items():
            model = self._repository.wanted.get(name)
            if model is None or model.problem:
                continue
            chosen, wanted = {*self._choose(model.config, model.there)}, {*model.versions, *model.problems}
            changes = changes or chosen != wanted
            for version in sorted(chosen - wanted - failed):
                if failed:
                    logger.warning("%s version %d is to serve in the place of version %d", name, version, max(failed))
        return changes
