"""Where a running experiment stands: since when, at which step of its ramp, and what a bandit has learned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from inferd.experiments.bandits.learned import Learned
from inferd.experiments.definition import Experiment


@dataclass(frozen=True, slots=True)
class Position:
    """It runs since ``started_ms``; a ramp is at ``step``, from 0, since ``step_ms``. Both count from 1970. A bandit
    goes by ``learned``, a ``Learned`` as text; "" before there is any."""

    step: int = 0
    step_ms: int = 0
    started_ms: int = 0
    learned: str = ""


UNSTARTED = Position()


def at_position(experiment: Experiment, position: Position) -> Experiment:
    """``experiment`` with the coverage and the weights that it has there. A definition that lost steps meanwhile is at
    its last."""
    steps = experiment.steps
    if steps:
        return replace(experiment, coverage=steps[min(position.step, len(steps) - 1)].coverage)
    learned = learned_at(experiment, position)
    if learned is None:
        return experiment
    pairs = zip(experiment.variants, learned.buckets, strict=True)
    return replace(experiment, variants=tuple(replace(each, weight=float(buckets)) for each, buckets in pairs))


def learned_at(experiment: Experiment, position: Position) -> Learned | None:
    """What a bandit goes by there. What was learned under another number of variants, or by another context, is
    forgotten."""
    bandit = experiment.bandit
    if bandit is None or not position.learned:
        return None
    learned = _read(position.learned)
    if len(learned.buckets) != len(experiment.variants):
        return None
    if learned.linear is None or (bandit.policy == "linucb" and len(learned.linear.mean) == len(bandit.context)):
        return learned
    return None


@lru_cache(64)
def _read(text: str) -> Learned:
    return Learned.of(text)
