from dataclasses import replace

import numpy as np
import pytest

from inferd.experiments.bandits.decisions import Decisions
from inferd.experiments.bandits.learned import chances
from inferd.experiments.definition import Bandit, Experiment, Metric, Variant

CLICK = Metric("click", "proportion", "click")
REVENUE = Metric("revenue", "mean", "revenue")


@pytest.fixture
def bandit():
    """Makes a bandit of so many variants on a metric."""

    def bandit(metric=CLICK, policy="thompson", arms=2, **settings):
        variants = tuple(Variant(f"v{arm}", f"ranker@{arm + 1}") for arm in range(arms))
        learning = Bandit(metric.name, policy, **settings)
        experiment = Experiment("e", "ranker", "request-id", "e", variants, mode="bandit", bandit=learning)
        return replace(experiment, metrics=(metric,))

    return bandit


@pytest.fixture
def decided():
    """Makes decisions of rewards, a list for each variant, all equally likely."""

    def decided(metric, *rewards, context=None):
        arm = np.repeat(np.arange(len(rewards)), [len(each) for each in rewards])
        rows = len(arm)
        width = np.zeros((rows, 0)) if context is None else np.array(context, float)
        value = np.concatenate([np.array(each, float) for each in rewards])
        return Decisions(np.arange(rows), arm, np.full(rows, 1 / len(rewards)), {metric: value}, width)

    return decided


@pytest.fixture
def logged():
    """Makes decisions that a bandit took while it learned from rewards 0 or 1 with these means, or normal ones."""

    def logged(experiment, learn, means, rng, *, rows=2000, looks=20, normal=False):
        means = np.asarray(means)
        name, learned = experiment.bandit.reward, None
        columns = np.zeros((3, 0))
        for _ in range(looks):
            found = chances(experiment, learned, np.zeros((rows // looks, 0)))
            arm = (rng.random((len(found), 1)) > np.cumsum(found, axis=1)[:, :-1]).sum(axis=1)
            value = rng.normal(means[arm], 1.0) if normal else rng.random(len(arm)) < means[arm]
            columns = np.column_stack([columns, [arm, found[np.arange(len(arm)), arm], value]])
            arms, propensity, values = columns[0].astype(int), columns[1], columns[2]
            decisions = Decisions(np.arange(len(arms)), arms, propensity, {name: values}, np.zeros((len(arms), 0)))
            learned = learn(experiment, decisions)
        return decisions

    return logged
