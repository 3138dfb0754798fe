"""Bandits on made-up traffic: what they lose while they learn. Seeds are fixed."""

from dataclasses import replace

import numpy as np
import pytest

from inferd.experiments.bandits.simulation import simulate_bandit
from inferd.experiments.definition import Metric
from inferd.experiments.population import made_up
from inferd.experiments.simulation import Rate, Traffic

BOUGHT = Metric("bought", "proportion", "bought", baseline=0.2)
REVENUE = Metric("revenue", "mean", "revenue", baseline=3.0, deviation=3.0)
FAILED = Metric("failed", "proportion", "failed", goal="decrease", baseline=0.2)
TRAFFIC = Traffic(300, 10, looks=30, runs=20)
POLICIES = {
    "epsilon-greedy": (BOUGHT, "epsilon-greedy", {}),
    "thompson, beta": (BOUGHT, "thompson", {}),
    "thompson, gaussian": (REVENUE, "thompson", {}),
    "ucb1": (BOUGHT, "ucb1", {}),
    "linucb": (BOUGHT, "linucb", {"context": ("header:X-Age", "header:X-Hour")}),
    "less is better": (FAILED, "thompson", {}),
    "linucb, less is better": (FAILED, "linucb", {"context": ("header:X-Age",)}),
    "four variants": (BOUGHT, "thompson", {"arms": 4}),
}


def tried(bandit, metric, policy, traffic=TRAFFIC, lift=0.5, delay_days=0.0, **settings):
    experiment = bandit(metric, policy, **settings)
    return simulate_bandit(experiment, made_up(metric, np.random.default_rng(0)), traffic, lift, delay_days)


@pytest.mark.parametrize("name", POLICIES, ids=lambda name: name.replace(" ", "-"))
def test_each_policy_loses_less_than_its_weights_do(bandit, name):
    metric, policy, settings = POLICIES[name]
    trials = tried(bandit, metric, policy, **settings)
    assert 0 < trials.regret < 0.7 * trials.regret_by_weights
    assert trials.best_at_the_end > 0.6
    assert trials.sound
    for covered in (trials.covered_weighted, trials.covered_normalised, trials.covered_robust):
        assert Rate(covered.runs - covered.count, covered.runs).may_be_at_most(0.07)
    assert trials.covered_anytime.share >= 0.95


def test_regret_by_the_weights_is_what_half_of_the_units_lose(bandit):
    trials = tried(bandit, BOUGHT, "thompson")
    assert trials.regret_by_weights == pytest.approx(TRAFFIC.units * 0.5 * 0.1, rel=0.01)


def test_rewards_that_come_late_cost_something_and_break_nothing(bandit):
    at_once, late = tried(bandit, BOUGHT, "thompson"), tried(bandit, BOUGHT, "thompson", delay_days=3)
    assert at_once.regret < late.regret < late.regret_by_weights
    assert late.sound
    never = tried(bandit, BOUGHT, "thompson", delay_days=10)
    assert never.regret > 0.9 * never.regret_by_weights


def test_exploring_all_the_time_is_the_weights(bandit):
    trials = tried(bandit, BOUGHT, "thompson", explore=1.0)
    assert trials.regret == pytest.approx(trials.regret_by_weights, rel=0.05)


def test_the_same_seed_loses_the_same(bandit):
    few = replace(TRAFFIC, runs=3)
    assert tried(bandit, BOUGHT, "thompson", few) == tried(bandit, BOUGHT, "thompson", few)
    assert tried(bandit, BOUGHT, "thompson", few) != tried(bandit, BOUGHT, "thompson", replace(few, seed=1))
