"""What policies would have earned, with intervals, from decisions whose chances are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from inferd.experiments.bandits.decisions import Decisions
from inferd.experiments.bandits.off_policy import (
    estimate_contrast,
    estimate_gain,
    estimate_policy,
    model_rewards,
)
from inferd.experiments.comparison import SURELY, Estimate, Interval
from inferd.experiments.definition import Analysis, Experiment
from inferd.experiments.statistics.effect import Difference, welch_interval, welch_p
from inferd.experiments.statistics.sequential import MIN_UNITS, anytime_interval, anytime_p, mixture

LEAST_REWARDS = 30
"""Of each variant that a policy would choose, and that many must have been due to it even at its least chance: before,
no interval can be trusted."""


@dataclass(frozen=True, slots=True)
class Value:
    """A mean reward. The ``fixed`` interval holds for a look planned in advance, ``anytime`` at every look."""

    mean: float
    fixed: Interval
    anytime: Interval


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """What one policy would have earned a prediction, three ways: by inverse propensities, the same normalised by the
    sum of the weights, and doubly robust. ``None`` while a variant that it chooses has too few rewards."""

    policy: str
    weighted: Value | None = None
    normalised: Value | None = None
    robust: Value | None = None


class Evaluation:
    """Decisions and one metric, made ready for any number of questions. ``decisions`` hold only rows of which the
    metric is known."""

    def __init__(self, experiment: Experiment, decisions: Decisions, metric: str) -> None:
        self._analysis = experiment.analysis
        self._decisions = decisions
        self._value = decisions.values[metric]
        arms = len(experiment.variants)
        self._floors = least_chances(experiment)
        self.counts = np.bincount(decisions.arm, minlength=arms)
        self.averages = _averages(decisions.arm, self._value, arms)
        self._modelled = model_rewards(decisions, self._value, arms)

    @property
    def rewards_needed(self) -> int:
        """How many, of all variants, it takes before anything is said of all of them."""
        return ceil(LEAST_REWARDS / float(self._floors.min()))

    def _is_known(self, arms: np.ndarray) -> bool:
        """Whether there are rewards enough of the variants that BOOL[arms] marks."""
        fewest = min(self.counts[arms].min(), len(self._value) * self._floors[arms].min())
        return bool(fewest >= LEAST_REWARDS)

    @property
    def earned(self) -> float | None:
        """What was earned a prediction, as it was decided."""
        return float(self._value.mean()) if len(self._value) else None

    def value(self, policy: str, target: np.ndarray) -> PolicyValue:
        """Of a policy that chooses with the chances FP64[arms] ``target``."""
        if not self._is_known(target > 0):
            return PolicyValue(policy)
        found = estimate_policy(self._decisions, self._value, self._modelled, target)
        kinds = (found.weighted, found.normalised, found.robust)
        return PolicyValue(policy, *(_value(each, self._analysis) for each in kinds))

    def gain(self, target: np.ndarray) -> Value | None:
        """By how much what was decided earned more than ``target`` would have, a prediction."""
        if not self._is_known(target > 0):
            return None
        return _value(estimate_gain(self._decisions, self._value, self._modelled, target), self._analysis)

    def estimate(self, treated: int) -> Estimate:
        """The doubly robust figures of one variant against control. ``control`` and ``treated`` are what each would
        have earned on all of the requests."""
        counts = int(self.counts[0]), int(self.counts[treated])
        if min(counts) < MIN_UNITS or len(self._value) < self.rewards_needed:
            return Estimate(*counts)
        arms, data = np.eye(len(self.counts)), (self._decisions, self._value, self._modelled)
        control, other = (estimate_policy(*data, arms[arm]).robust for arm in (0, treated))
        seen = Estimate(*counts, float(control.delta), float(other.delta))
        effect = estimate_contrast(*data, arms[treated] - arms[0])
        if not effect.se > 0:
            return seen
        found = _value(effect, self._analysis)
        is_surely_positive = control.delta > SURELY * control.se
        return replace(
            seen,
            delta=found.mean,
            relative=found.mean / float(control.delta) if is_surely_positive else None,
            fixed=found.fixed,
            fixed_p=float(welch_p(effect)),
            anytime=found.anytime,
            anytime_p=float(anytime_p(effect, _rho2(self._analysis))),
        )


def least_chances(experiment: Experiment) -> np.ndarray:
    """FP64[arms]: what each variant is chosen with at the least."""
    explore = 1.0 if experiment.bandit is None else experiment.bandit.explore
    return explore * np.array(experiment.shares)


def named_policies(experiment: Experiment) -> Mapping[str, np.ndarray]:
    """Those that everyone asks about: always one variant, or all of them by their weights."""
    names = [f"always {variant.name}" for variant in experiment.variants]
    found = dict(zip(names, np.eye(len(names)), strict=True))
    return {**found, "by the weights": np.array(experiment.shares)}


def _value(found: Difference, analysis: Analysis) -> Value:
    return Value(
        float(found.delta),
        _interval(welch_interval(found, analysis.alpha)),
        _interval(anytime_interval(found, analysis.alpha, _rho2(analysis))),
    )


def _rho2(analysis: Analysis) -> float:
    return mixture(analysis.tuning_units, analysis.alpha)


def _interval(ends: tuple[np.ndarray, np.ndarray]) -> Interval:
    return Interval(float(ends[0]), float(ends[1]))


def _averages(arm: np.ndarray, value: np.ndarray, arms: int) -> list[float | None]:
    count, total = np.bincount(arm, minlength=arms), np.bincount(arm, value, minlength=arms)
    return [float(each / n) if n else None for each, n in zip(total, count, strict=True)]
