"""Change experiments while a server runs: decided here, kept in the database, followed by all servers that share it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from inferd.core.errors import ConfigError, Conflict, InferdError
from inferd.experiments.definition import Experiment
from inferd.experiments.definition_store import Change, DefinitionStore, Shares, Standing, Stored, What
from inferd.experiments.definition_toml import experiment_of
from inferd.experiments.promotion import Promotion
from inferd.experiments.registry import Entry, ExperimentRegistry, State

logger = logging.getLogger("inferd.experiments")

GiveToEveryone = Callable[[str, Promotion, str], Coroutine[Any, Any, None]]
"""Called with the model, what is promoted, and by whom. Raises ``InferdError`` when that cannot be."""
_Result = TypeVar("_Result")


class ExperimentControl:
    """Used on the loop's thread only; the database is asked on ``threads``. ``give`` gives a version of a model to
    everyone on this server.

    A file's definition wins over a stored one of the same id, and the API may only start and stop it.
    """

    def __init__(
        self, registry: ExperimentRegistry, store: DefinitionStore, threads: Executor, give: GiveToEveryone
    ) -> None:
        self._registry = registry
        self._store = store
        self._threads = threads
        self._give = give
        self._files: set[str] = set()
        self._giving: set[asyncio.Task[None]] = set()

    def load(self, files: Iterable[tuple[Experiment, str]]) -> None:
        """Know the experiments of ``files`` and of the database. Blocks; at start. Raises ``StoreUnavailable``."""
        for experiment, origin in files:
            stored = self._store.adopt(experiment, origin)
            self._files.add(experiment.id)
            self._add(experiment, origin, stored)
        self.follow(self._store.all())

    def follow(self, stored: Iterable[Stored]) -> None:
        """Do here what was decided, perhaps on another server. What another server's file defines is not for this one,
        unless it was defined by the API before."""
        known = {entry.experiment.id: entry for entry in self._registry.entries}
        for each in stored:
            entry = known.get(each.id)
            if entry is None and each.origin:
                continue
            try:
                if each.id not in self._files and (entry is None or entry.version != each.version):
                    self._know(each)
                elif entry is not None:
                    self._follow_state(entry, each)
            except (ConfigError, Conflict) as error:
                logger.error("experiment %s does not run: %s", each.id, error.message)

    async def create(self, experiment: Experiment, who: str, *, start: bool) -> Entry:
        """Keep a new experiment, and run it if ``start``. Raises ``ConfigError`` when it does not fit what is served,
        ``Conflict`` when the id is taken, ``StoreUnavailable``; then nothing changed."""
        (self._registry.check if start else self._registry.check_fits)(experiment)
        stored = await self._ask(lambda: self._store.create(experiment, "running" if start else "stopped", who))
        return self._know(stored)

    async def replace(self, experiment: Experiment, version: int, who: str) -> Entry:
        """Replace ``version`` of the definition by its next; it goes on running if it does.

        Raises as ``create`` does, ``ExperimentNotFound``, and ``Conflict`` too when another version is stored, a file
        defines it, or units that were assigned already would change variants.
        """
        entry = self._changeable(experiment.id)
        (self._registry.check if entry.state == "running" else self._registry.check_fits)(experiment)
        return self._know(await self._ask(lambda: self._store.replace(experiment, version, who)))

    async def archive(self, experiment_id: str, version: int | None, who: str) -> Entry:
        """End it for good: it does not run, its report and history stay. Raises as ``replace`` does."""
        self._changeable(experiment_id)
        return self._know(await self._ask(lambda: self._store.set_state(experiment_id, "archived", who, "", version)))

    async def start(self, experiment_id: str, who: str) -> Entry:
        """Run it. Raises ``ExperimentNotFound``, ``Conflict`` with the reason when it cannot run, and
        ``StoreUnavailable``; then nothing changed."""
        self._registry.check_start(experiment_id)
        stored = await self._ask(lambda: self._store.set_state(experiment_id, "running", who, ""))
        return self._registry.start(experiment_id, stored.position)

    async def stop(self, experiment_id: str, who: str, why: str, what: What = "stopped") -> Entry:
        """The kill switch. Raises ``ExperimentNotFound``, and ``StoreUnavailable`` when it is stopped here but that
        could not be kept: send it again, or a restart runs it again."""
        entry = self._registry.stop(experiment_id, why)
        if entry.state == "stopped":
            await self._ask(lambda: self._store.set_state(experiment_id, "stopped", who, why, what=what))
        return entry

    async def promote(self, experiment_id: str, promotion: Promotion, who: str, why: str) -> Entry:
        """End the experiment and give a variant's version to everyone, here and on all servers that share the store.
        Raises what ``give`` raises, then nothing changed, and as ``stop`` does."""
        entry = self._registry.get(experiment_id)
        if entry.state == "archived":
            raise Conflict(f"experiment {experiment_id!r} is archived; create another one")
        before = entry.state, entry.reason
        self._registry.stop(experiment_id, why, "promoted")
        try:
            await self._give(entry.experiment.model, promotion, who)
        except InferdError:
            self._registry.set_state(entry, *before)
            raise
        await self._ask(lambda: self._store.set_state(experiment_id, "promoted", who, why, promotion=promotion))
        return entry

    async def move(self, entry: Entry, step: int, what: What, who: str, why: str) -> bool:
        """Let a ramp go to ``step``, or hold or resume it there. False when another server or a person was faster.
        Raises ``StoreUnavailable``; then nothing changed."""
        seen = _standing(entry)
        stored = await self._ask(lambda: self._store.move(seen, step, what, who, why))
        if stored is not None:
            self._registry.move(stored.id, stored.position, stored.reason)
        return stored is not None

    async def learn(self, entry: Entry, learned: str, shares: Shares, who: str, why: str) -> bool:
        """Let a bandit go by what it has ``learned``. False and raises as ``move``."""
        seen = _standing(entry)
        stored = await self._ask(lambda: self._store.learn(seen, learned, shares, who, why))
        if stored is not None:
            self._registry.move(stored.id, stored.position, stored.reason)
        return stored is not None

    async def advance(self, experiment_id: str, who: str, why: str) -> Entry:
        """Let a ramp go on, whatever it waits for. Raises ``ExperimentNotFound``, ``Conflict`` when there is no next
        step, and ``StoreUnavailable``; then nothing changed."""
        entry = self._registry.get(experiment_id)
        step = entry.position.step + 1
        if entry.state != "running" or step >= len(entry.experiment.steps):
            raise Conflict(f"experiment {experiment_id!r} is {entry.state} and has no step to go on to")
        if not await self.move(entry, step, "advanced", who, why):
            raise Conflict(f"experiment {experiment_id!r} went elsewhere meanwhile; look again")
        return entry

    async def warn(self, entry: Entry, metric: str, who: str, why: str) -> bool:
        """Note that a guardrail is broken; False when that was noted already. Raises ``StoreUnavailable``."""
        seen = _standing(entry)
        return await self._ask(lambda: self._store.warn(seen, metric, who, why))

    async def history(self, experiment_id: str, limit: int) -> Sequence[Change]:
        """The latest changes, the last first. Raises ``ExperimentNotFound`` and ``StoreUnavailable``."""
        self._registry.get(experiment_id)
        return await self._ask(lambda: self._store.history(experiment_id, limit))

    async def _ask(self, question: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, question)

    def _changeable(self, experiment_id: str) -> Entry:
        entry = self._registry.get(experiment_id)
        if entry.origin:
            raise Conflict(f"experiment {experiment_id!r} is defined by the file {entry.origin}; change it there")
        return entry

    def _know(self, stored: Stored) -> Entry:
        return self._add(experiment_of(stored.values), stored.origin, stored)

    def _add(self, experiment: Experiment, origin: str, stored: Stored) -> Entry:
        return self._registry.add(
            experiment,
            origin,
            state=stored.state,
            reason=stored.reason,
            version=stored.version,
            position=stored.position,
        )

    def _follow_state(self, entry: Entry, stored: Stored) -> None:
        if _wanted(entry) == stored.state:
            if stored.state == "running":
                self._registry.move(stored.id, stored.position, stored.reason)
        elif stored.state == "running":
            self._registry.start(stored.id, stored.position)
        elif stored.state == "stopped":
            self._registry.stop(stored.id, stored.reason)
        else:
            if stored.state == "promoted" and entry.state == "running" and stored.promotion is not None:
                self._give_too(entry.experiment.model, stored.promotion)
            self._know(stored)

    def _give_too(self, model: str, promotion: Promotion) -> None:
        """Do here what another server has done."""

        async def give() -> None:
            try:
                await self._give(model, promotion, "another server")
            except InferdError as error:
                logger.error("%s, which another server promoted, is not: %s", promotion, error.message)

        task = asyncio.get_running_loop().create_task(give())
        self._giving.add(task)
        task.add_done_callback(self._giving.discard)


def _standing(entry: Entry) -> Standing:
    return Standing(entry.experiment.id, entry.position, bool(entry.reason))


def _wanted(entry: Entry) -> State:
    """What was decided, whether or not it can be."""
    return "running" if entry.state == "invalid" else entry.state
