"""Open what experiments need: their definitions, the store, the log before it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from fastapi import FastAPI

from inferd.core.errors import MissingExtra
from inferd.experiments.log import ExposureLog
from inferd.experiments.registry import ExperimentRegistry, read_folder
from inferd.server.experiments import mount_experiments
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
            from inferd.experiments.store import Store
            from inferd.server.feedback import mount_feedback
        except ModuleNotFoundError as error:
            raise MissingExtra("an experiment's log", "experiments") from error
        folder = Path(settings.experiments)
        definitions = read_folder(folder)
        self._store = Store.open(settings.experiment_store or f"sqlite:///{folder / 'experiments.db'}")
        self._log = ExposureLog(self._store)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="inferd-experiments")
        self.registry = ExperimentRegistry(engine, self._log.put)
        for experiment, origin in definitions:
            self.registry.add(experiment, Path(origin).name)
        self._mount_feedback = partial(
            mount_feedback,
            registry=self.registry,
            log=self._log,
            store=self._store,
            window_s=settings.feedback_window_h * 3600,
            threads=self._threads,
        )

    def mount(self, app: FastAPI) -> None:
        """Add the routes."""
        mount_experiments(app, self.registry)
        self._mount_feedback(app)

    def write_metrics(self, page: Page) -> None:
        """Add what a scrape tells of the exposures' way to the store; on any thread."""
        page.gauges("inferd_exposures_pending", "Exposures that wait to be stored.", [("", self._log.pending)])
        page.counters("inferd_exposures_dropped_total", "Exposures never stored.", [("", self._log.dropped)])

    def close(self) -> None:
        """Write what was logged, within a bound, and let go of the store."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._log.close(CLOSE_TIMEOUT_S)
        self._store.close()
