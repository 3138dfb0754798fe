"""Try the report's promises on made-up experiments whose truth is known, many times over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from inferd.experiments.definition import Analysis, Experiment, Metric
from inferd.experiments.draws import Draws
from inferd.experiments.population import Population
from inferd.experiments.statistics.effect import (
    Interval,
    cuped_theta,
    difference,
    proportion_interval,
    proportion_p,
    welch_interval,
    welch_p,
)
from inferd.experiments.statistics.imbalance import ALARM, imbalance_p
from inferd.experiments.statistics.library import scipy
from inferd.experiments.statistics.moments import Arm
from inferd.experiments.statistics.sequential import MIN_UNITS, anytime_interval, anytime_p, mixture

_RUNS_AT_ONCE = 100
_UNEVEN, _UNEVEN_UNITS = (0.52, 0.48), 20_000
_CHANCE = 0.00135
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Traffic:
    """``units_per_day`` enter the experiment for ``days``; each of ``runs`` is looked at ``looks`` times, evenly."""

    units_per_day: int
    days: float
    looks: int = 100
    runs: int = 2000
    seed: int = 0

    @property
    def units(self) -> int:
        """All units of one run."""
        return round(self.units_per_day * self.days)


@dataclass(frozen=True, slots=True)
class Rate:
    """How many of the runs."""

    count: int
    runs: int

    @property
    def share(self) -> float:
        """``count`` over ``runs``."""
        return self.count / self.runs

    def may_be_at_most(self, limit: float) -> bool:
        """Whether a true rate of ``limit`` explains this one: a binomial count as high comes once in 740 times or more
        often, as one of three standard deviations does."""
        return float(scipy("special").bdtrc(self.count - 1, self.runs, limit)) >= _CHANCE


@dataclass(frozen=True, slots=True)
class MetricTrial:
    """What happened to one metric.

    ``false_…``: runs without a difference in which one was found: at any look by the anytime-valid interval, at any
    look by the fixed-horizon one, at the last look by the latter. With the metric raised by ``lift``, ``found_…``
    counts runs that saw the rise, by any look or at the last, and ``covered_…`` those whose interval held the truth,
    at every look or at the last. Half of the runs that found it had by ``median_days``.
    """

    metric: str
    control: float
    lift: float
    false_anytime: Rate
    false_peeking: Rate
    false_planned: Rate
    found_anytime: Rate
    found_planned: Rate
    covered_anytime: Rate
    covered_planned: Rate
    median_days: float | None


@dataclass(frozen=True, slots=True)
class SplitTrial:
    """Alarms of the split test at 52 to 48 of 20,000 units, and at the planned split of one run's units."""

    found: Rate
    false: Rate


@dataclass(frozen=True, slots=True)
class Trials:
    """All that ``simulate`` tried. ``sound`` says that no promise was broken beyond what chance explains."""

    experiment: str
    traffic: Traffic
    alpha: float
    metrics: tuple[MetricTrial, ...]
    split: SplitTrial
    sound: bool


class _Looks(NamedTuple):
    """BOOL[runs, looks]: are there enough units, is a difference found, the right way round, the truth held?"""

    ready: np.ndarray
    anytime: np.ndarray
    fixed: np.ndarray
    right: np.ndarray
    anytime_holds: np.ndarray
    fixed_holds: np.ndarray


def simulate(
    experiment: Experiment,
    populations: Mapping[str, Population],
    traffic: Traffic,
    lift: float,
    progress: Progress = lambda runs: None,
) -> Trials:
    """Try each metric of ``populations``: the control against the second variant, without a difference and with the
    metric changed by the share ``lift``. ``progress`` is told how many runs are done since the last time."""
    metrics = {metric.name: metric for metric in experiment.metrics}
    trials = tuple(
        _trial(experiment, metrics[name], population, traffic, lift, progress)
        for name, population in populations.items()
    )
    split = _split(experiment, traffic)
    alpha = experiment.analysis.alpha
    sound = split.false.may_be_at_most(ALARM) and all(_sound(trial, alpha) for trial in trials)
    return Trials(experiment.id, traffic, alpha, trials, split, sound)


def _trial(
    experiment: Experiment,
    metric: Metric,
    population: Population,
    traffic: Traffic,
    lift: float,
    progress: Progress,
) -> MetricTrial:
    rng = np.random.default_rng([traffic.seed, *metric.name.encode()])
    lifted = population.lifted(lift, rng)
    draws, lifted_draws, rise = Draws(population), Draws(lifted), lifted.metric - population.metric
    same: list[_Looks] = []
    changed: list[_Looks] = []
    for start in range(0, traffic.runs, _RUNS_AT_ONCE):
        runs = min(_RUNS_AT_ONCE, traffic.runs - start)
        counts = _counts(experiment, traffic, runs, rng)
        for looks, treated, truth in ((same, draws, 0.0), (changed, lifted_draws, rise)):
            pair = draws.arms(counts[0], rng), treated.arms(counts[1], rng)
            looks.append(_looks(metric, experiment.analysis, pair, population.binary, truth))
        progress(runs)
    return _tally(metric, population, traffic, lift, _joined(same), _joined(changed))


def _counts(experiment: Experiment, traffic: Traffic, runs: int, rng: np.random.Generator) -> np.ndarray:
    """INT64[variants, runs, looks]: units that came to each variant since the look before."""
    edges = np.linspace(0, traffic.units, traffic.looks + 1).astype(np.int64)
    arrived = edges[1:] - edges[:-1]
    return np.moveaxis(rng.multinomial(arrived, experiment.shares, (runs, traffic.looks)), -1, 0)


def _looks(metric: Metric, analysis: Analysis, pair: tuple[Arm, Arm], binary: bool, truth: float) -> _Looks:
    """Judge every look exactly as the report does. The first looks may be at nobody; what they divide is not ready."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _judged(metric, analysis, pair, binary, truth)


def _judged(metric: Metric, analysis: Analysis, pair: tuple[Arm, Arm], binary: bool, truth: float) -> _Looks:
    theta = cuped_theta(pair) if metric.covariate else 0.0
    effect = difference(*pair, theta)
    rho2 = mixture(analysis.tuning_units, analysis.alpha)
    fixed = proportion_interval(*pair, analysis.alpha) if binary else welch_interval(effect, analysis.alpha)
    fixed_p = proportion_p(*pair) if binary else welch_p(effect)
    ready = (np.minimum(pair[0].count, pair[1].count) >= MIN_UNITS) & (effect.se > 0)
    return _Looks(
        ready,
        ready & (anytime_p(effect, rho2) <= analysis.alpha),
        ready & (fixed_p <= analysis.alpha),
        effect.delta * truth > 0,
        ~ready | _holds(anytime_interval(effect, analysis.alpha, rho2), truth),
        ~ready | _holds(fixed, truth),
    )


def _holds(interval: Interval, truth: float) -> np.ndarray:
    inside: np.ndarray = (interval[0] <= truth) & (truth <= interval[1])
    return inside


def _joined(blocks: list[_Looks]) -> _Looks:
    return _Looks(*map(np.concatenate, zip(*blocks, strict=True)))


def _tally(
    metric: Metric, population: Population, traffic: Traffic, lift: float, same: _Looks, changed: _Looks
) -> MetricTrial:
    found = changed.anytime & changed.right
    first = np.argmax(found, axis=1)[found.any(axis=1)]
    days = float(np.median(first + 1)) * traffic.days / traffic.looks if first.size else None
    return MetricTrial(
        metric.name,
        population.metric,
        lift,
        false_anytime=_rate(np.any(same.anytime, axis=1)),
        false_peeking=_rate(np.any(same.fixed, axis=1)),
        false_planned=_rate(same.fixed[:, -1]),
        found_anytime=_rate(np.any(found, axis=1)),
        found_planned=_rate((changed.fixed & changed.right)[:, -1]),
        covered_anytime=_rate(np.all(changed.anytime_holds, axis=1)),
        covered_planned=_rate(changed.fixed_holds[:, -1]),
        median_days=days,
    )


def _rate(runs: np.ndarray) -> Rate:
    return Rate(int(np.count_nonzero(runs)), runs.size)


def _split(experiment: Experiment, traffic: Traffic) -> SplitTrial:
    rng = np.random.default_rng([traffic.seed, 1])
    uneven = rng.multinomial(_UNEVEN_UNITS, _UNEVEN, traffic.runs)
    planned = rng.multinomial(traffic.units, experiment.shares, traffic.runs)
    return SplitTrial(
        _rate(np.array([imbalance_p(counts, (0.5, 0.5)) < ALARM for counts in uneven])),
        _rate(np.array([imbalance_p(counts, experiment.shares) < ALARM for counts in planned])),
    )


def _sound(trial: MetricTrial, alpha: float) -> bool:
    missed = Rate(trial.covered_anytime.runs - trial.covered_anytime.count, trial.covered_anytime.runs)
    return trial.false_anytime.may_be_at_most(alpha) and missed.may_be_at_most(alpha)
