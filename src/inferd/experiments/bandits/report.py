"""What a bandit's data say. Its shares follow the rewards, so the averages of the variants cannot simply be compared:
every figure here is weighed by the chance with which each decision was made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

from inferd.experiments.automatic import automatic_metrics
from inferd.experiments.bandits.decisions import Decisions
from inferd.experiments.bandits.evaluation import Evaluation, PolicyValue, Value, least_chances, named_policies
from inferd.experiments.bandits.imbalance import imbalance_p
from inferd.experiments.bandits.learned import bandit_of
from inferd.experiments.definition import Experiment, Metric
from inferd.experiments.guardrail import GuardrailCheck
from inferd.experiments.report import Comparison, judged
from inferd.experiments.shadow_report import ShadowComparison
from inferd.experiments.statistics.imbalance import ALARM


@dataclass(frozen=True, slots=True)
class BanditVariant:
    """``predictions`` that the variant answered and the ``rewards`` that are known of them. ``average`` is theirs, as
    it came: of the times at which the bandit chose the variant, no estimate of what it is worth."""

    name: str
    predictions: int
    share: float
    weight: float
    rewards: int
    average: float | None


@dataclass(frozen=True, slots=True)
class BanditReport:
    """The report of an experiment in mode ``bandit``. ``policies`` tells what each would have earned a prediction in
    ``reward``, and ``gain`` what the bandit earned beyond its weights. ``comparisons`` and ``automatic`` are doubly
    robust. With ``split_alarm`` every verdict is void: rewards of some variant are lost, or propensities wrong."""

    experiment: str
    model: str
    mode: Literal["bandit"]
    policy: str
    reward: str
    predictions: int
    rewards: int
    days: float | None
    alpha: float
    correction: str
    variants: tuple[BanditVariant, ...]
    split_p: float
    split_alarm: bool
    earned: float | None
    gain: Value | None
    policies: tuple[PolicyValue, ...]
    comparisons: tuple[Comparison, ...]
    automatic: tuple[Comparison, ...]
    guardrails: tuple[GuardrailCheck, ...] = ()
    shadows: tuple[ShadowComparison, ...] = ()


def compared_metrics(experiment: Experiment) -> tuple[Metric, ...]:
    """Those that can be weighed: means and proportions, the experiment's own and the automatic ones."""
    return tuple(_weighable(experiment.metrics) + _weighable(automatic_metrics(experiment)))


def bandit_report(experiment: Experiment, decisions: Decisions) -> BanditReport:
    """Judge ``decisions``, which hold the ``compared_metrics``. Raises ``MissingExtra`` where SciPy is not
    installed."""
    bandit, days = bandit_of(experiment), decisions.days
    own, automatic = _weighable(experiment.metrics), _weighable(automatic_metrics(experiment))
    found = {metric.name: evaluation_of(experiment, decisions, metric.name) for metric in (*own, *automatic)}
    reward = found[bandit.reward]
    weights = np.array(experiment.shares)
    split_p = imbalance_p(decisions.told(bandit.reward), least_chances(experiment))
    alarm_p = split_p if split_p < ALARM else None
    told = int(reward.counts.sum())
    return BanditReport(
        experiment.id,
        experiment.model,
        "bandit",
        bandit.policy,
        bandit.reward,
        len(decisions.arm),
        told,
        days,
        experiment.analysis.alpha,
        experiment.analysis.correction,
        _variants(experiment, decisions, reward),
        split_p,
        alarm_p is not None,
        reward.earned,
        reward.gain(weights),
        tuple(reward.value(name, target) for name, target in named_policies(experiment).items()),
        _compared(experiment, own, found, days, alarm_p),
        _compared(experiment, automatic, found, days, None),
    )


def evaluation_of(experiment: Experiment, decisions: Decisions, metric: str) -> Evaluation:
    """Of the rows of which ``metric`` is known."""
    return Evaluation(experiment, decisions.told(metric), metric)


def _weighable(metrics: tuple[Metric, ...]) -> list[Metric]:
    return [metric for metric in metrics if metric.kind in ("mean", "proportion")]


def _variants(experiment: Experiment, decisions: Decisions, reward: Evaluation) -> tuple[BanditVariant, ...]:
    predictions = np.bincount(decisions.arm, minlength=len(experiment.variants))
    total = max(1, int(predictions.sum()))
    return tuple(
        BanditVariant(
            variant.name,
            int(predictions[arm]),
            float(predictions[arm] / total),
            experiment.shares[arm],
            int(reward.counts[arm]),
            reward.averages[arm],
        )
        for arm, variant in enumerate(experiment.variants)
    )


def _compared(
    experiment: Experiment,
    metrics: list[Metric],
    found: dict[str, Evaluation],
    days: float | None,
    alarm_p: float | None,
) -> tuple[Comparison, ...]:
    pairs = list(product(metrics, range(1, len(experiment.variants))))
    estimates = [found[metric.name].estimate(treated) for metric, treated in pairs]
    compared = judged(experiment, pairs, estimates, days, alarm_p)
    return tuple(_or_too_early(each, found[each.metric]) for each in compared)


def _or_too_early(comparison: Comparison, found: Evaluation) -> Comparison:
    """Where a variant may be chosen so rarely that a hundred rewards of each are not enough, that is said."""
    rewards, needed = int(found.counts.sum()), found.rewards_needed
    if comparison.conclusion != "too early" or rewards >= needed:
        return comparison
    words = f"it takes {needed:,} outcomes, since a variant may be chosen rarely; there are {rewards:,}."
    return replace(comparison, verdict=f"too early: {words}")
