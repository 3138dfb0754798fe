"""Climb ramps: look at the data of each at its pace, and do what is decided."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from inferd.core.errors import InferdError, StoreUnavailable
from inferd.experiments.control import ExperimentControl
from inferd.experiments.definition import Experiment
from inferd.experiments.definition_store import What
from inferd.experiments.pace import look_regularly
from inferd.experiments.promotion import Promotion
from inferd.experiments.ramp import Decision, Evidence, decide
from inferd.experiments.registry import Entry, ExperimentRegistry
from inferd.experiments.target import find_ticket
from inferd.serving.engine import Engine

logger = logging.getLogger("inferd.experiments")

WHO = "ramp"


@dataclass(frozen=True, slots=True)
class Notice:
    """What is told to a webhook: ``event`` is what the audit trail says, ``why`` its reason. ``at_ms`` counts from
    1970."""

    experiment: str
    model: str
    variant: str
    event: What
    why: str
    step: int
    coverage: float
    at_ms: int


Gather = Callable[[Experiment, int], Evidence]
"""What is known of an experiment since a time in ms; blocks, on any thread. Raises ``StoreUnavailable``."""
Notify = Callable[[str, Notice], None]
"""Sends a notice to a URL; returns at once, never raises."""


class RampRunner:
    """Used on the loop's thread; the data are gathered on ``threads``. Of several servers that share a store each
    looks, and whoever is first does what is decided."""

    def __init__(
        self,
        engine: Engine,
        registry: ExperimentRegistry,
        control: ExperimentControl,
        gather: Gather,
        threads: Executor,
        notify: Notify,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._engine = engine
        self._registry = registry
        self._control = control
        self._gather = gather
        self._threads = threads
        self._notify = notify
        self._now_ms = now_ms

    async def run(self) -> None:
        """Look at each ramp when it is time, until cancelled."""
        await look_regularly(self._registry, _every_s, self.look)

    async def look(self, entry: Entry) -> Decision | None:
        """Look at one ramp now. What fails is told in the log and tried again at the next look, which gives None."""
        try:
            return await self._look(entry)
        except StoreUnavailable as error:
            logger.warning("ramp %s waits: %s", entry.experiment.id, error.message)
        # A defect in one ramp must not end the others.
        except Exception:
            logger.exception("ramp %s could not be looked at", entry.experiment.id)
        return None

    async def _look(self, entry: Entry) -> Decision | None:
        experiment, position = entry.experiment, entry.position
        loop = asyncio.get_running_loop()
        evidence = await loop.run_in_executor(self._threads, self._gather, experiment, position.started_ms)
        if entry.state != "running" or entry.position != position:
            return None  # somebody was faster
        await self._warn(entry, evidence)
        minutes = (self._now_ms() - position.step_ms) / 60_000
        step = min(position.step, len(experiment.steps) - 1)
        decision = decide(experiment, step, minutes, self._with_readiness(experiment, evidence))
        await self._do(entry, step, decision)
        return decision

    def _with_readiness(self, experiment: Experiment, evidence: Evidence) -> Evidence:
        target = experiment.variants[1].target
        if find_ticket(target, self._engine.table) is not None:
            return evidence
        unready = f"nothing that is ready answers to {target}; its units get control"
        return Evidence(evidence.units, evidence.split_p, evidence.checks, unready)

    async def _warn(self, entry: Entry, evidence: Evidence) -> None:
        for check in evidence.checks:
            if check.action == "notify" and check.conclusion == "broken":
                why = f"{check.metric}: {check.verdict}"
                if await self._control.warn(entry, check.metric, WHO, why):
                    self._tell(entry, "warned", why)

    async def _do(self, entry: Entry, step: int, decision: Decision) -> None:
        action, why = decision
        if action == "roll back":
            await self._control.stop(entry.experiment.id, WHO, why, "rolled back")
            self._tell(entry, "rolled back", why)
        elif action == "advance":
            await self._move(entry, step + 1, "advanced", why)
        elif action == "hold" and not entry.reason:
            await self._move(entry, step, "held", why)
        elif action == "wait" and entry.reason:
            await self._move(entry, step, "resumed", why)
        elif action == "promote":
            await self._promote(entry, step, why)

    async def _move(self, entry: Entry, step: int, what: What, why: str) -> None:
        if await self._control.move(entry, step, what, WHO, why):
            self._tell(entry, what, why)

    async def _promote(self, entry: Entry, step: int, why: str) -> None:
        experiment = entry.experiment
        variant, label = experiment.variants[1], experiment.ramp.label if experiment.ramp else ""
        ticket = find_ticket(variant.target, self._engine.table)
        if ticket is None:
            return
        promotion = Promotion(variant.name, ticket.servable.version, label)
        try:
            await self._control.promote(experiment.id, promotion, WHO, f"{promotion}: {why}")
        except StoreUnavailable:
            raise
        except InferdError as error:
            if not entry.reason:
                await self._move(entry, step, "held", f"it cannot be promoted: {error.message}")
            return
        self._tell(entry, "promoted", why)

    def _tell(self, entry: Entry, event: What, why: str) -> None:
        experiment, step = entry.experiment, entry.position.step
        logger.info("ramp %s %s: %s", experiment.id, event, why)
        if experiment.ramp is not None and experiment.ramp.webhook:
            coverage = entry.live.experiment.coverage
            notice = Notice(
                experiment.id,
                experiment.model,
                experiment.variants[1].name,
                event,
                why,
                step,
                coverage,
                self._now_ms(),
            )
            self._notify(experiment.ramp.webhook, notice)


def _every_s(entry: Entry) -> float | None:
    return entry.experiment.ramp.every_s if entry.experiment.ramp is not None else None
