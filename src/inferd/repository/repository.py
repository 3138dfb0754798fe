"""Keeps what is served equal to what is wanted: loads versions off the loop, swaps the table, drains and unloads."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferd.core.config import ModelConfig
from inferd.core.errors import InferdError
from inferd.core.lifecycle import VersionState, move
from inferd.repository.desired import WantedModel
from inferd.repository.loader import LoadedVersion, load_version
from inferd.repository.servables import make_servable
from inferd.serving.engine import Engine
from inferd.serving.servable import Servable
from inferd.serving.table import Table, VersionStatus
from inferd.telemetry.metrics import Metrics

logger = logging.getLogger("inferd.repository")


@dataclass(slots=True)
class VersionRecord:
    """One attempt to serve one version; a retry is a new record. Changed on the loop's thread only."""

    config: ModelConfig
    version: int
    artefact: Path
    state: VersionState = VersionState.PENDING
    reason: str = ""
    loaded: LoadedVersion | None = None
    servable: Servable | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests: READY, with an instance that is not beyond its compute timeout."""
        return self.state is VersionState.READY and self.servable is not None and not self.servable.batcher.wedged

    @property
    def model(self) -> str:
        """The model's name."""
        return self.config.name

    @property
    def queue_rows(self) -> int:
        """Rows waiting now."""
        return self.servable.batcher.queue_rows if self.servable is not None else 0

    @property
    def inflight(self) -> int:
        """Requests that hold this version now."""
        return self.servable.inflight if self.servable is not None else 0

    @property
    def load_s(self) -> float:
        """Seconds from the start of loading to the end of warm-up; 0 while there is none."""
        return self.loaded.load_s + self.loaded.warmup_s if self.loaded is not None else 0.0

    def describe(self) -> dict[str, Any]:
        """Model, version, state and, where there is one, the reason."""
        wedged = self.state is VersionState.READY and not self.is_ready
        reason = "every instance runs beyond its compute timeout" if wedged else self.reason
        entry = {"model": self.config.name, "version": self.version, "state": self.state.value}
        return {**entry, "reason": reason} if reason else entry

    def advance(self, to: VersionState, reason: str = "") -> None:
        """Move forward; an illegal move is a defect and raises ``ValueError``."""
        self.state = move(self.state, to)
        self.reason = reason


class ModelRepository:
    """All versions this server knows, and the steps between their states.

    ``on_change`` is called on the loop after each swap of the table; ``on_ready`` before a servable becomes visible,
    so that protocols can prepare what they need for it.
    """

    def __init__(
        self,
        wanted: Sequence[WantedModel],
        engine: Engine,
        metrics: Metrics,
        *,
        default_model: str = "",
        load_parallelism: int = 2,
        on_ready: Callable[[Servable], None] = lambda servable: None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._default_model = default_model
        self._on_ready = on_ready
        self._on_change = on_change
        self._pool = ThreadPoolExecutor(load_parallelism, thread_name_prefix="inferd-load")
        self.records: list[VersionRecord] = []
        for model in wanted:
            for version, artefact in sorted(model.versions.items()):
                self.records.append(VersionRecord(model.config, version, artefact))
            for version, reason in sorted(model.problems.items()):
                record = VersionRecord(model.config, version, Path())
                record.advance(VersionState.FAILED, reason)
                self.records.append(record)
        self._publish()

    async def load_all(self) -> None:
        """Load every pending version, several at a time; each is served as soon as it is ready."""
        await asyncio.gather(*(self._load(record) for record in self.records if record.state is VersionState.PENDING))

    async def drain(self, timeout_s: float) -> None:
        """Let what was accepted finish, within ``timeout_s``, then unload everything."""
        servables = [record.servable for record in self.records if record.servable is not None]
        for record in self.records:
            if record.servable is not None:
                record.advance(VersionState.DRAINING)
        try:
            async with asyncio.timeout(timeout_s):
                for servable in servables:
                    await servable.drained()
        except TimeoutError:
            logger.error("requests were still running when the time to drain was over")
        for record in self.records:
            self._unload(record)
        self._publish()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def blockers(self, model: str | None = None) -> list[dict[str, Any]]:
        """Why the server (or one model) is not ready: one entry a version, or [] when it is ready.

        A failed version does not hold up the others: it blocks its own model while that has no ready version, and
        the server while nothing at all is ready.
        """
        records = [record for record in self.records if model is None or record.model == model]
        any_ready = any(record.is_ready for record in records)
        return [
            record.describe()
            for record in records
            if not record.is_ready and not (record.state is VersionState.FAILED and any_ready)
        ]

    async def _load(self, record: VersionRecord) -> None:
        loop = asyncio.get_running_loop()
        record.advance(VersionState.LOADING)
        self._publish()
        started = time.monotonic()
        try:
            loaded = await loop.run_in_executor(self._pool, self._load_version, record, loop)
        except InferdError as error:
            record.advance(VersionState.FAILED, error.message)
            logger.error("%s version %d FAILED: %s", record.model, record.version, error.message)
            self._publish()
            return
        record.loaded = loaded
        record.servable = make_servable(loaded, loop, self._metrics)
        self._on_ready(record.servable)
        record.advance(VersionState.READY)
        self._publish()
        logger.info("%s version %d READY after %.2f s", record.model, record.version, time.monotonic() - started)

    def _load_version(self, record: VersionRecord, loop: asyncio.AbstractEventLoop) -> LoadedVersion:
        """In the loading thread; states change on the loop."""

        def on_state(state: VersionState) -> None:
            loop.call_soon_threadsafe(record.advance, state)

        return load_version(record.config, record.version, record.artefact, on_state)

    def _unload(self, record: VersionRecord) -> None:
        if record.servable is None or record.loaded is None:
            return
        record.advance(VersionState.UNLOADING)
        record.servable.batcher.close()
        record.loaded.close()
        record.servable = record.loaded = None
        record.advance(VersionState.UNLOADED)

    def _publish(self) -> None:
        """Swap the table for one that shows the records as they are now."""
        self._engine.table = Table(
            [VersionStatus(r.model, r.version, r.state, r.reason, r.servable) for r in self.records],
            self._default_model,
        )
        self._on_change()
