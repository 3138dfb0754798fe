"""Let bandits learn: look at the rewards of each at its pace, and put in place what they teach."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor

from inferd.core.errors import StoreUnavailable
from inferd.experiments.assignment import BUCKETS
from inferd.experiments.bandits.learned import Learned, bandit_of
from inferd.experiments.control import ExperimentControl
from inferd.experiments.definition import Experiment
from inferd.experiments.pace import look_regularly
from inferd.experiments.position import learned_at
from inferd.experiments.registry import Entry, ExperimentRegistry

logger = logging.getLogger("inferd.experiments")

WHO = "bandit"
Gather = Callable[[Experiment], Learned]
"""What the rewards that are known teach; blocks, on any thread. Raises ``StoreUnavailable``."""


class BanditRunner:
    """Used on the loop's thread; rewards are gathered on ``threads``. Of several servers that share a store each looks,
    whoever is first puts in place what was learned, and the others follow."""

    def __init__(
        self, registry: ExperimentRegistry, control: ExperimentControl, gather: Gather, threads: Executor
    ) -> None:
        self._registry = registry
        self._control = control
        self._gather = gather
        self._threads = threads

    async def run(self) -> None:
        """Look at each bandit when it is time, until cancelled."""
        await look_regularly(self._registry, _every_s, self.look)

    async def look(self, entry: Entry) -> Learned | None:
        """Look at one bandit now: what its rewards teach, put in place if that is news. What fails is told in the log
        and tried again at the next look, which gives None."""
        try:
            return await self._look(entry)
        except StoreUnavailable as error:
            logger.warning("bandit %s learns nothing: %s", entry.experiment.id, error.message)
        # A defect in one bandit must not end the others.
        except Exception:
            logger.exception("bandit %s could not be looked at", entry.experiment.id)
        return None

    async def _look(self, entry: Entry) -> Learned | None:
        experiment, position = entry.experiment, entry.position
        loop = asyncio.get_running_loop()
        learned = await loop.run_in_executor(self._threads, self._gather, experiment)
        if entry.state != "running" or entry.position != position:
            return None  # somebody was faster
        if learned.is_news(learned_at(experiment, position), experiment):
            why = _why(experiment, learned)
            shares = _shares(entry.live.experiment, None), _shares(experiment, learned)
            if await self._control.learn(entry, learned.text(), shares, WHO, why):
                logger.info("bandit %s learned: %s", experiment.id, why)
        return learned


def _every_s(entry: Entry) -> float | None:
    return entry.experiment.bandit.every_s if entry.experiment.bandit is not None else None


def _shares(experiment: Experiment, learned: Learned | None) -> dict[str, float]:
    """Of requests, by variant."""
    shares = experiment.shares if learned is None else [each / BUCKETS for each in learned.buckets]
    return {variant.name: round(share, 4) for variant, share in zip(experiment.variants, shares, strict=True)}


def _why(experiment: Experiment, learned: Learned) -> str:
    found = zip(experiment.variants, learned.averages, learned.rewards, strict=True)
    told = (f"{each.name} {mean:.4g} of {count:,}" for each, mean, count in found if mean is not None)
    return f"{bandit_of(experiment).reward}: {', '.join(told)}"
