"""Keeps what is served equal to what is wanted: loads versions off the loop, swaps the table, drains and unloads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from inferd.core.errors import (
    ConfigError,
    GateFailed,
    InferdError,
    LoadFailed,
    MissingExtra,
    OutOfMemory,
)
from inferd.core.lifecycle import VersionState
from inferd.repository.artefact import print_of
from inferd.repository.desired import WantedModel
from inferd.repository.loader import LoadedVersion, load_version
from inferd.repository.memory import give_back
from inferd.repository.reconcile import Attempt, Load, next_action
from inferd.repository.record import CHANGED, COMING, VersionRecord
from inferd.repository.records import VersionRecords
from inferd.repository.residency import Residency
from inferd.repository.servables import make_servable
from inferd.repository.state import HistoryEvent, StateStore, now_ms
from inferd.repository.threads import in_thread
from inferd.repository.waiters import Waiters
from inferd.serving.engine import Engine
from inferd.serving.servable import Servable
from inferd.serving.table import Table
from inferd.telemetry.metrics import Metrics

logger = logging.getLogger("inferd.repository")

FIRST_RETRY_S, RETRY_FACTOR = 2.0, 4.0
BACKGROUND_S = 1.0
"""How long the end of the server waits for work that nobody waits for."""
CLOSE_S = 2.0
"""How long the end of the server waits for models to be freed."""
FREED_AT_ONCE = 8
NO_ROOM = "no room in the memory budget: everything loaded is in use"
_GOING = frozenset({VersionState.DRAINING, VersionState.UNLOADING, VersionState.UNLOADED})


class ModelRepository:
    """All versions this server knows, and the steps between their states. Used on the loop's thread only.

    ``apply`` says what is wanted; steps are then taken until that is so. ``on_change`` is called after each swap of the
    table; ``on_ready`` before a servable becomes visible, so that protocols can prepare what they need for it;
    ``on_outcome`` when a version has become ready or has failed.
    """

    def __init__(
        self,
        wanted: Sequence[WantedModel],
        engine: Engine,
        metrics: Metrics,
        *,
        store: StateStore,
        default_model: str = "",
        load_parallelism: int = 2,
        residency: Residency | None = None,
        on_ready: Callable[[Servable], None] = lambda servable: None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._default_model = default_model
        self._on_ready = on_ready
        self._on_change = on_change
        self.on_outcome: Callable[[], None] = lambda: None
        self._store = store
        self._residency = residency or Residency()
        self._waiters = Waiters(self._residency.wait_s)
        self._loading = asyncio.Semaphore(load_parallelism)
        self._freeing = asyncio.Semaphore(FREED_AT_ONCE)
        self._closing = False
        self._tasks: dict[str, set[asyncio.Task[None]]] = {}
        self.wanted: dict[str, WantedModel] = {}
        self.labels: dict[str, dict[str, int]] = {}
        self._records = VersionRecords()
        for model in wanted:
            if model.problem and not model.there:
                logger.warning("%s is ignored: %s", model.origin, model.problem)
                continue
            self.wanted[model.name] = model
            self._add_problems(model, initial=True)
            for version in sorted(model.versions):
                self._records.begin(model, version, initial=True).dormant = model.config.lifecycle.load == "lazy"
        self._publish()

    @property
    def records(self) -> list[VersionRecord]:
        """All of them, those of one model together, by version."""
        return self._records.all()

    async def load_all(self) -> None:
        """Load every pending version, several at a time; each is served as soon as it is ready."""
        for record in self.records:
            if record.state is VersionState.PENDING and not record.dormant:
                self._start_loading(record)
        await self.settled(self.wanted)

    def apply(self, wanted: Sequence[WantedModel]) -> None:
        """Serve ``wanted`` from now on; steps begin at once and go on by themselves. A model with another
        configuration or origin than before is loaded anew, one that is gone is drained, and one that cannot be read is
        left as it is."""
        before = self.wanted
        self.wanted = {model.name: model for each in wanted if (model := self._readable(each)) is not None}
        for model in self.wanted.values():
            known = before.get(model.name)
            for record in self._records.of(model.name):
                same = known is not None and (known.config, known.origin) == (model.config, model.origin)
                failed = record.state is VersionState.FAILED
                if record.version in model.problems:
                    continue
                if not same or (failed and record.artefact != model.versions.get(record.version, record.artefact)):
                    record.current = False
                _look_for_change(record, model)
            self._add_problems(model)
        for name in {*before, *self.wanted}:
            self._records.forget(name, self.wanted.get(name))
            self._step(name)
        self._publish()

    def _readable(self, model: WantedModel) -> WantedModel | None:
        """``model``, or what was last known of one that has a problem; None when that is nothing."""
        if not model.problem:
            return model
        known = next((each for each in self.wanted.values() if each.origin == model.origin), None)
        if known is None or not known.versions:
            return model if model.there else None
        if known.problem != model.problem:
            logger.error("%s goes on as it was: %s", known.name, model.problem)
        return replace(known, problem=model.problem)

    def reload(self, name: str, version: int | None, *, stale_only: bool = False) -> None:
        """Load the versions that are served (or one of them) again, beside those that serve; or only those that failed
        or whose files have changed."""
        there = self.wanted[name].versions if name in self.wanted else ()
        for record in self._records.of(name):
            stale = record.changed or (record.state is VersionState.FAILED and record.version in there)
            if version in (None, record.version) and not record.dormant and (stale or not stale_only):
                record.current = False
        self._step(name)

    async def settled(self, names: Iterable[str]) -> None:
        """Return when no step is under way for these models."""
        for name in names:
            while tasks := self._tasks.get(name):
                await asyncio.wait(tasks)

    def publish(self) -> None:
        """Show what changed besides versions: labels."""
        self._publish()

    def take_no_more_steps(self) -> None:
        """Begin the end: what is being loaded is given up, unless callers wait for it."""
        self._closing = True
        for record in self.records:
            if record.state in COMING and not record.loads_on_call:
                self._give_up(record)

    async def drain(self, timeout_s: float) -> None:
        """Let what was accepted finish, within ``timeout_s``, then unload everything."""
        self.take_no_more_steps()
        for record in self.records:
            if record.state is VersionState.READY:
                record.advance(VersionState.DRAINING)
        servables = [record.servable for record in self.records if record.servable is not None]
        if not await _all_within(timeout_s, (servable.answered() for servable in servables)):
            logger.error("requests were still running when the time to drain was over")
        elif not await _all_within(BACKGROUND_S, (servable.drained() for servable in servables)):
            logger.warning("shadow requests were still running, and are given up")
        if not await _all_within(CLOSE_S, [asyncio.gather(*map(self._free, self.records))]):
            logger.error("models were still being freed at the end")
        self._publish()
        self._store.close()

    def blockers(self, model: str | None = None) -> list[dict[str, Any]]:
        """Why the server (or one model) is not ready: one entry a version, or [] when it is ready.

        A failed version does not hold up the others: it blocks its own model while that has no ready version, and
        the server while nothing at all is ready. Versions that come after the start never hold up the server, nor a
        model that has a ready one.
        """
        records = [record for record in self.records if model is None or record.model == model]
        ready = {record.model for record in records if record.is_ready}
        blocking = []
        for record in records:
            if record.is_ready or record.state is VersionState.UNLOADED or record.dormant:
                continue
            waived = record.state is VersionState.FAILED or record.state in _GOING or not record.initial
            if not (waived and (record.model in ready or (model is None and ready))):
                blocking.append(record.describe())
        return blocking

    def failed(self, model: str | None = None) -> list[dict[str, Any]]:
        """What is wanted and could not be loaded, of the server or of one model: one entry a version."""
        return [
            record.describe()
            for record in self.records
            if record.state is VersionState.FAILED and record.current and model in (None, record.model)
        ]

    def _step(self, name: str) -> None:
        """Take every step that can be taken now."""
        model = self.wanted.get(name)
        # One that cannot even be tried is wanted too, and counts as failed: what it was to replace goes on.
        hopeless = [Attempt(version, VersionState.FAILED) for version in model.problems] if model is not None else []
        desired = frozenset((*model.versions, *model.problems)) if model is not None else frozenset()
        while not self._closing:
            records = self._records.of(name)
            attempts = [*map(_attempt, records), *hopeless]
            transition = model.config.lifecycle.transition if model is not None else "availability-preserving"
            action = next_action(desired, attempts, transition)
            if action is None:
                return
            if isinstance(action, Load):
                assert model is not None
                record = self._records.begin(model, action.version)
                # What nobody has asked for yet is not asked for more often because it has a new version.
                asked = any(each.loads_or_serves for each in self._records.of(name) if each is not record)
                record.dormant = model.config.lifecycle.load == "lazy" and not asked
                if not record.dormant:
                    self._start_loading(record)
            elif records[action.position].state is VersionState.READY:
                records[action.position].advance(VersionState.DRAINING)
                self._start(name, self._retire(records[action.position]))
            else:
                self._give_up(records[action.position])

    def _start_loading(self, record: VersionRecord) -> None:
        record.step = self._start(record.model, self._load(record))

    def _start(self, name: str, step: Any) -> asyncio.Task[None]:
        tasks = self._tasks.setdefault(name, set())
        task = asyncio.get_running_loop().create_task(step)
        tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            try:
                self._step(name)  # before this one is forgotten, so that whoever waits sees what follows
            finally:
                tasks.discard(task)

        task.add_done_callback(done)
        return task

    def _add_problems(self, model: WantedModel, *, initial: bool = False) -> None:
        """A failed record for each version that cannot even be tried."""
        for version, reason in sorted(model.problems.items()):
            known = [each for each in self._records.of(model.name) if each.version == version]
            if any(each.reason == reason or each.state is VersionState.READY for each in known):
                continue
            for each in known:
                if each.state in COMING and not each.dormant:
                    self._give_up(each)
            self._records.refuse(model, version, reason, initial=initial)
            logger.error("%s version %d FAILED: %s", model.name, version, reason)
            self._remember(model.name, version, "failed", reason)
            self.on_outcome()

    def wake(self, model: str, version: int) -> None:
        """See ``LazyLoader``."""
        for record in self._records.of(model):
            if record.version == version and record.dormant:
                record.dormant = False
                self._start_loading(record)

    def when_loaded(
        self, model: str, version: int, callback: Callable[[], None], since_ns: int
    ) -> Callable[[], None] | None:
        """See ``LazyLoader``."""
        return self._waiters.add((model, version), callback, (time.monotonic_ns() - since_ns) / 1e9)

    def unload_idle(self) -> None:
        """Let versions sleep that nobody has asked for long enough."""
        for record in self._residency.idle(self.records):
            self._sleep(record, "nobody asked for it")

    def _sleep(self, record: VersionRecord, why: str) -> None:
        """Put a dormant record in the place of a version that nobody uses, and free it."""
        self._records.sleep(record)
        record.advance(VersionState.DRAINING)
        self._publish()
        self._remember(record.model, record.version, "unloaded", why)
        logger.info("%s version %d UNLOADED: %s", record.model, record.version, why)
        self._start(record.model, self._free(record))

    def _make_room(self, record: VersionRecord) -> bool:
        """Whether there is room for a version, now that others sleep for it.

        Raises ``ConfigError`` when there never will be.
        """
        self._residency.check_size(record)
        victims = self._residency.room_for(record, self.records)
        for victim in victims or ():
            self._sleep(victim, f"{record.model} version {record.version} needs its memory")
        return victims is not None

    async def _load(self, record: VersionRecord) -> None:
        try:
            if self._make_room(record):
                await self._load_now(record)
            elif record.config.lifecycle.load == "lazy":
                if record.reason != NO_ROOM:
                    logger.warning("%s version %d waits: %s", record.model, record.version, NO_ROOM)
                record.reason, record.dormant = NO_ROOM, True
                self._publish()
            else:
                self._failed(record, OutOfMemory(NO_ROOM))
        except ConfigError as error:
            self._failed(record, error)
        finally:
            self._waiters.notify((record.model, record.version))

    async def _load_now(self, record: VersionRecord) -> None:
        async with self._loading:
            record.advance(VersionState.LOADING)
            logger.info("%s version %d LOADING", record.model, record.version)
            self._publish()
            started = time.monotonic()
            limit_s = record.config.lifecycle.load_timeout_s
            work = partial(self._load_version, record, asyncio.get_running_loop(), self._before(record))
            try:
                async with asyncio.timeout(limit_s or None):
                    loaded = await in_thread(work, undo=LoadedVersion.close)
            except InferdError as error:
                self._failed(record, error)
                return
            except TimeoutError:
                self._failed(record, LoadFailed(f"it was not loaded within {limit_s:g} s (load_timeout_s)"))
                return
        record.loaded = loaded
        record.servable = make_servable(loaded, asyncio.get_running_loop(), self._metrics)
        self._on_ready(record.servable)
        record.advance(VersionState.READY)
        self._publish()
        await asyncio.sleep(0)  # requests first: one long turn of the loop would hold up all of them
        took = f"after {time.monotonic() - started:.2f} s"
        self._remember(record.model, record.version, "ready", took)
        logger.info("%s version %d READY %s", record.model, record.version, took)
        self.on_outcome()

    def _give_up(self, record: VersionRecord) -> None:
        """Stop waiting for a version that nobody wants any more; what is loaded of it is freed once that has ended."""
        record.advance(VersionState.UNLOADED)
        if record.step is not None:
            record.step.cancel()
        self._waiters.notify((record.model, record.version))
        self._remember(record.model, record.version, "given up", "nobody wants it any more")
        logger.info("%s version %d UNLOADED: nobody wants it any more", record.model, record.version)

    def _before(self, record: VersionRecord) -> LoadedVersion | None:
        """The version that serves now and that ``record`` comes after, or beside."""
        serving = [each.loaded for each in self._records.of(record.model) if each.loaded is not None]
        return max(serving, key=lambda each: each.version) if serving else None

    def _failed(self, record: VersionRecord, error: InferdError) -> None:
        record.error = error
        record.advance(VersionState.FAILED, error.message)
        logger.error("%s version %d FAILED: %s", record.model, record.version, error.message)
        if (
            not isinstance(error, ConfigError | MissingExtra | GateFailed)
            and record.attempt <= record.config.lifecycle.retries
        ):
            delay_s = FIRST_RETRY_S * RETRY_FACTOR ** (record.attempt - 1)
            record.retry_at = time.monotonic() + delay_s
            asyncio.get_running_loop().call_later(delay_s, self._step, record.model)
        self._remember(record.model, record.version, "failed", error.message)
        self._publish()
        self.on_outcome()

    def _load_version(
        self, record: VersionRecord, loop: asyncio.AbstractEventLoop, before: LoadedVersion | None
    ) -> LoadedVersion:
        """In the loading thread; states change on the loop."""

        def on_state(state: VersionState) -> None:
            if record.state is not VersionState.LOADING:
                raise LoadFailed("nobody waits for it any more")
            with contextlib.suppress(RuntimeError):  # the loop has closed
                loop.call_soon_threadsafe(warming, state)

        def warming(state: VersionState) -> None:
            if record.state is VersionState.LOADING:
                record.advance(state)

        record.print = print_of(record.artefact)
        return load_version(record.config, record.version, record.artefact, on_state, before=before)

    async def _retire(self, record: VersionRecord) -> None:
        """Hide a version from new requests, wait for those that hold it, free it."""
        self._publish()
        if record.servable is not None:
            await record.servable.drained()
        if self._closing:
            return
        await self._free(record)
        self._remember(record.model, record.version, "unloaded", "")
        logger.info("%s version %d UNLOADED", record.model, record.version)
        self._records.forget(record.model, self.wanted.get(record.model))
        self._records.retire(record)
        self._publish()

    async def _free(self, record: VersionRecord) -> None:
        """Unload; frameworks take their time to free a model, so not on the loop."""
        if record.state is not VersionState.DRAINING or record.servable is None or record.loaded is None:
            return
        record.advance(VersionState.UNLOADING)
        record.servable.batcher.close()
        async with self._freeing:
            await in_thread(record.loaded.close)
            record.servable = record.loaded = None
            await in_thread(give_back)
        record.advance(VersionState.UNLOADED)

    def _remember(self, model: str, version: int, event: str, why: str) -> None:
        self._store.record(HistoryEvent(now_ms(), model, version, event, "inferd", why))

    def _publish(self) -> None:
        """Swap the table for one that shows the records as they are now."""
        self._engine.table = Table(self._records.statuses(), self._default_model, self.labels)
        self._on_change()


async def _all_within(timeout_s: float, waits: Iterable[Awaitable[object]]) -> bool:
    """Whether all of ``waits`` have returned in time."""
    try:
        async with asyncio.timeout(timeout_s):
            for wait in waits:
                await wait
    except TimeoutError:
        return False
    return True


def _look_for_change(record: VersionRecord, model: WantedModel) -> None:
    """Files that changed in place, or that took the place of others between two looks, may not be whole yet: that is
    told, and somebody says when to load them."""
    changed = record.state is VersionState.READY and model.prints.get(record.version, record.print) != record.print
    if changed and not record.changed:
        logger.warning("%s version %d: %s", record.model, record.version, CHANGED)
    record.changed = changed


def _attempt(record: VersionRecord) -> Attempt:
    due = bool(record.retry_at) and time.monotonic() >= record.retry_at
    return Attempt(record.version, record.state, record.current, due)
