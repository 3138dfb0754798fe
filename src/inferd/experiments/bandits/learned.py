"""What a bandit has learned and goes by: a pure function of its decisions and their rewards, small enough to keep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from inferd.experiments.assignment import BUCKETS
from inferd.experiments.automatic import measured
from inferd.experiments.bandits.decisions import Decisions
from inferd.experiments.bandits.linear import Linear, Scorer, fit
from inferd.experiments.bandits.policies import best, dealt, explored, greedy, thompson_beta, thompson_gaussian, ucb1
from inferd.experiments.bandits.rewards import Rewards
from inferd.experiments.definition import Bandit, Experiment, Metric

NEWS_BUCKETS = BUCKETS // 100
NEWS_GROWTH = 1.1
"""What is worth putting in place: a variant's chance moves by one in a hundred or, where chances depend on the request,
a variant has a tenth more rewards. LinUCB loses no more than a constant factor by waiting for such growth:
Abbasi-Yadkori, Pal and Szepesvari, *Improved Algorithms for Linear Stochastic Bandits*, NeurIPS 2011, 5.1."""


@dataclass(frozen=True, slots=True)
class Learned:
    """``rewards`` counts those that each variant had, ``averages`` tells what they were, ``None`` where there were
    none. ``buckets`` of all 10,000 go to each; where chances depend on the request, ``linear`` says how, and
    ``buckets`` are those of the requests so far on average."""

    rewards: tuple[int, ...]
    averages: tuple[float | None, ...]
    buckets: tuple[int, ...]
    linear: Linear | None = None

    def text(self) -> str:
        """As the database keeps it."""
        return json.dumps(asdict(self))

    @staticmethod
    def of(text: str) -> Learned:
        """What ``text`` wrote."""
        values = json.loads(text)
        linear = values.pop("linear")
        plain = {name: tuple(value) for name, value in values.items()}
        return Learned(**plain, linear=None if linear is None else Linear(**_tuples(linear)))

    def is_news(self, before: Learned | None, experiment: Experiment) -> bool:
        """Whether it differs from ``before`` by enough to be put in place."""
        if self.linear is not None:
            counts = (0,) * len(self.rewards) if before is None or before.linear is None else before.rewards
            return any(now > NEWS_GROWTH * then for now, then in zip(self.rewards, counts, strict=True))
        buckets = dealt(experiment.shares) if before is None else before.buckets
        return any(abs(now - then) >= NEWS_BUCKETS for now, then in zip(self.buckets, buckets, strict=True))


def learn(experiment: Experiment, decisions: Decisions) -> Learned:
    """What ``decisions``, whose reward may be on its way for some, teach."""
    bandit, metric, arms = bandit_of(experiment), reward_of(experiment), len(experiment.variants)
    told = decisions.told(metric.name)
    value = told.values[metric.name]
    gain = _gains(bandit, metric, value)
    rewards, raw = Rewards.of(told.arm, gain, arms), Rewards.of(told.arm, value, arms)
    averages = tuple(mean if count else None for mean, count in zip(raw.mean.tolist(), raw.count, strict=True))
    counts, shares = tuple(int(count) for count in rewards.count), np.array(experiment.shares)
    if min(counts) < bandit.warm_up:
        return Learned(counts, averages, dealt(experiment.shares))
    if bandit.policy == "linucb":
        known = ~np.isnan(told.context).any(axis=1)
        linear = fit(told.where(known), gain[known], arms, bandit.width)
        preferred = best(Scorer(linear).scores(told.context[known])).mean(axis=0)
    else:
        linear, preferred = None, _preferred(bandit, metric, rewards)
    return Learned(counts, averages, dealt(explored(preferred, shares, bandit.explore)), linear)


def chances(experiment: Experiment, learned: Learned | None, context: np.ndarray) -> np.ndarray:
    """FP64[rows, arms]: how likely each variant is for requests with FP64[rows, k], which is what ``Chooser`` draws
    by."""
    if learned is None or learned.linear is None:
        buckets = dealt(experiment.shares) if learned is None else learned.buckets
        return np.tile(np.array(buckets) / BUCKETS, (len(context), 1))
    shares, explore = np.array(experiment.shares), bandit_of(experiment).explore
    by_best = np.array([dealt(explored(each, shares, explore)) for each in np.eye(len(shares))]) / BUCKETS
    found: np.ndarray = by_best[Scorer(learned.linear).scores(context).argmax(axis=1)]
    return found


def bandit_of(experiment: Experiment) -> Bandit:
    """How it learns. Only for mode ``bandit``."""
    assert experiment.bandit is not None
    return experiment.bandit


def reward_of(experiment: Experiment) -> Metric:
    """The metric that the bandit makes as good as it can."""
    name = bandit_of(experiment).reward
    return next(metric for metric in measured(experiment) if metric.name == name)


def _gains(bandit: Bandit, metric: Metric, value: np.ndarray) -> np.ndarray:
    """Rewards of which more is better; between 0 and 1 where the policy counts with that."""
    if metric.kind == "proportion":
        value = np.clip(value, 0.0, 1.0)
    if metric.goal == "decrease":
        value = (1.0 if metric.kind == "proportion" else 0.0) - value
    if bandit.span:
        low, high = sorted(-each if metric.goal == "decrease" else each for each in bandit.span)
        value = np.clip((value - low) / (high - low), 0.0, 1.0)
    return value


def _preferred(bandit: Bandit, metric: Metric, rewards: Rewards) -> np.ndarray:
    if bandit.policy == "epsilon-greedy":
        return greedy(rewards)
    if bandit.policy == "ucb1":
        return ucb1(rewards)
    return thompson_beta(rewards) if metric.kind == "proportion" else thompson_gaussian(rewards)


def _tuples(value: Any) -> Any:
    """Lists as the tuples that they were."""
    if isinstance(value, dict):
        return {name: _tuples(each) for name, each in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value
