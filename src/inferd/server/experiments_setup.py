"""Open what experiments need: their definitions, the store, the log before it, what climbs ramps and lets bandits
learn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from fastapi import FastAPI

from inferd.core.errors import MissingExtra
from inferd.experiments.log import EventLog
from inferd.experiments.registry import ExperimentRegistry, read_folder
from inferd.repository.control import ModelControl
from inferd.server.experiment_metrics import write_experiments
from inferd.server.settings import Settings
from inferd.serving.engine import Engine
from inferd.telemetry.exposition import Page

CLOSE_TIMEOUT_S = 5.0
THREADS = 4
"""How many requests may wait for the database at once; others wait for them."""


class Experiments:
    """All of a server's experiments, and where they are logged."""

    def __init__(self, settings: Settings, engine: Engine, models: ModelControl) -> None:
        """``models`` gives everyone what an experiment found. Raises ``ConfigError`` for a definition or a store that
        cannot be read, and ``MissingExtra``."""
        try:
            from inferd.experiments.bandits.runner import BanditRunner
            from inferd.experiments.control import ExperimentControl
            from inferd.experiments.database import open_database
            from inferd.experiments.definition_store import DefinitionStore
            from inferd.experiments.follower import Follower
            from inferd.experiments.judge import Judge
            from inferd.experiments.ramp_runner import RampRunner
            from inferd.experiments.store import Store
            from inferd.server.experiments import mount_experiments
            from inferd.server.feedback import mount_feedback
            from inferd.server.promotion import giver, mount_promotion
            from inferd.server.webhook import Webhooks
        except ModuleNotFoundError as error:
            raise MissingExtra("an experiment's log", "experiments") from error
        folder = Path(settings.experiments)
        files = [(each, Path(path).name) for each, path in read_folder(folder)] if settings.experiments else []
        database = open_database(settings.experiment_store or f"sqlite:///{folder / 'experiments.db'}")
        self._store, decided = Store(database), DefinitionStore(database)
        self._log = EventLog(self._store)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="inferd-experiments")
        self._webhooks = Webhooks()
        registry = self.registry = ExperimentRegistry(engine, self._log.put)
        control = self.control = ExperimentControl(registry, decided, self._threads, giver(models))
        judge = Judge(self._log, self._store)
        self.ramps = RampRunner(engine, registry, control, judge.evidence, self._threads, self._webhooks.notify)
        self.bandits = BanditRunner(registry, control, judge.learned, self._threads)
        self._follower = Follower(decided, control.follow)
        control.load(files)
        window_s = settings.feedback_window_h * 3600
        self._mounts: Sequence[Callable[[FastAPI], None]] = (
            partial(mount_experiments, registry=registry, control=control),
            partial(
                mount_feedback,
                registry=registry,
                log=self._log,
                store=self._store,
                judge=judge,
                window_s=window_s,
                threads=self._threads,
            ),
            partial(
                mount_promotion, registry=registry, control=control, judge=judge, threads=self._threads, engine=engine
            ),
        )

    def mount(self, app: FastAPI) -> None:
        """Add the routes."""
        for mount in self._mounts:
            mount(app)

    async def run(self) -> None:
        """What goes on while the server serves, until cancelled."""
        await asyncio.gather(self.ramps.run(), self.bandits.run())

    def write_metrics(self, page: Page) -> None:
        """Add what a scrape tells of experiments and of the exposures' way to the store; on any thread."""
        log = self._log
        page.gauges("inferd_exposures_pending", "Events of experiments that wait to be stored.", [("", log.pending)])
        page.counters("inferd_exposures_dropped_total", "Events of experiments never stored.", [("", log.dropped)])
        write_experiments(page, self.registry)

    def close(self) -> None:
        """Write what was logged, within a bound, and let go of the store."""
        self._follower.close(CLOSE_TIMEOUT_S)
        self._webhooks.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.registry.close()
        self._log.close(CLOSE_TIMEOUT_S)
        self._store.close()
