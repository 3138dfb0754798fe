"""Open what experiments need: their definitions, the store, the log before it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from fastapi import FastAPI

from inferd.core.errors import MissingExtra
from inferd.experiments.log import ExposureLog
from inferd.experiments.registry import ExperimentRegistry, read_folder
from inferd.repository.control import ModelControl
from inferd.server.settings import Settings
from inferd.serving.engine import Engine
from inferd.telemetry.exposition import Page

CLOSE_TIMEOUT_S = 5.0
THREADS = 4
"""How many requests may wait for the database at once; others wait for them."""


class Experiments:
    """All of a server's experiments, and where they are logged."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        """Raises ``ConfigError`` for a definition or a store that cannot be read, and ``MissingExtra``."""
        try:
            from inferd.experiments.control import ExperimentControl
            from inferd.experiments.database import open_database
            from inferd.experiments.definition_store import DefinitionStore
            from inferd.experiments.follower import Follower
            from inferd.experiments.store import Store
            from inferd.server.experiments import mount_experiments
            from inferd.server.feedback import make_report, mount_feedback
            from inferd.server.promotion import mount_promotion
        except ModuleNotFoundError as error:
            raise MissingExtra("an experiment's log", "experiments") from error
        folder = Path(settings.experiments)
        files = [(each, Path(path).name) for each, path in read_folder(folder)] if settings.experiments else []
        database = open_database(settings.experiment_store or f"sqlite:///{folder / 'experiments.db'}")
        self._store, decided = Store(database), DefinitionStore(database)
        self._log = ExposureLog(self._store)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="inferd-experiments")
        self.registry = ExperimentRegistry(engine, self._log.put)
        self.control = ExperimentControl(self.registry, decided, self._threads)
        self._follower = Follower(decided, self.control.follow)
        self.control.load(files)
        self._mount_control = partial(mount_experiments, registry=self.registry, control=self.control)
        self._mount_feedback = partial(
            mount_feedback,
            registry=self.registry,
            log=self._log,
            store=self._store,
            window_s=settings.feedback_window_h * 3600,
            threads=self._threads,
        )

        self._mount_promotion = partial(
            mount_promotion,
            registry=self.registry,
            control=self.control,
            make_report=partial(make_report, self._log, self._store),
            threads=self._threads,
            engine=engine,
        )

    def mount(self, app: FastAPI, models: ModelControl) -> None:
        """Add the routes; ``models`` gives everyone what an experiment found."""
        self._mount_control(app)
        self._mount_feedback(app)
        self._mount_promotion(app, models=models)

    def write_metrics(self, page: Page) -> None:
        """Add what a scrape tells of the exposures' way to the store; on any thread."""
        page.gauges("inferd_exposures_pending", "Exposures that wait to be stored.", [("", self._log.pending)])
        page.counters("inferd_exposures_dropped_total", "Exposures never stored.", [("", self._log.dropped)])

    def close(self) -> None:
        """Write what was logged, within a bound, and let go of the store."""
        self._follower.close(CLOSE_TIMEOUT_S)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._log.close(CLOSE_TIMEOUT_S)
        self._store.close()
