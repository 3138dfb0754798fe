"""Estimates of what policies would have earned: by hand, and on seeded logs whose truth is known."""

import numpy as np
import pytest

from inferd.experiments.bandits.decisions import Decisions
from inferd.experiments.bandits.learned import learn
from inferd.experiments.bandits.off_policy import (
    estimate_contrast,
    estimate_gain,
    estimate_policy,
    model_rewards,
)
from inferd.experiments.definition import Metric
from inferd.experiments.simulation import Rate
from inferd.experiments.statistics.effect import welch_interval
from inferd.experiments.statistics.sequential import anytime_interval, mixture

CLICK = Metric("click", "proportion", "click")
REVENUE = Metric("revenue", "mean", "revenue")
BY_HAND = Decisions(np.arange(4), np.array([0, 1, 1, 0]), np.array([0.5, 0.25, 0.5, 0.8]), {}, np.zeros((4, 0)), None)
EARNED = np.array([1.0, 3.0, 2.0, 0.0])


def test_inverse_propensities_are_those_of_the_formula():
    modelled = np.tile([1.0, 2.0], (4, 1))
    found = estimate_policy(BY_HAND, EARNED, modelled, np.array([0.0, 1.0]))
    weights = np.array([0, 4, 2, 0])
    assert found.weighted.delta == pytest.approx((4 * 3 + 2 * 2) / 4)
    assert found.normalised.delta == pytest.approx((4 * 3 + 2 * 2) / (4 + 2))
    assert found.robust.delta == pytest.approx(2 + (4 * (3 - 2) + 2 * (2 - 2)) / 4)
    assert found.weighted.se == pytest.approx((weights * EARNED).std(ddof=1) / 2)
    mixed = estimate_policy(BY_HAND, EARNED, modelled, np.array([0.3, 0.7]))
    assert mixed.weighted.delta == pytest.approx((0.3 * (2 * 1 + 0) + 0.7 * (4 * 3 + 2 * 2)) / 4)


def test_a_contrast_is_the_difference_of_two_policies_and_a_gain_that_to_what_was_decided():
    modelled = np.tile([1.0, 2.0], (4, 1))
    one, other = (estimate_policy(BY_HAND, EARNED, modelled, np.eye(2)[arm]).robust.delta for arm in (0, 1))
    assert estimate_contrast(BY_HAND, EARNED, modelled, np.array([-1.0, 1.0])).delta == pytest.approx(other - one)
    assert estimate_gain(BY_HAND, EARNED, modelled, np.array([1.0, 0])).delta == pytest.approx(EARNED.mean() - one)


def test_rows_of_one_unit_count_once():
    """Every row told twice is not twice as much known."""
    rng = np.random.default_rng(0)
    arm, value = rng.integers(0, 2, 200), rng.normal(size=200)
    single = Decisions(np.arange(200), arm, np.full(200, 0.5), {}, np.zeros((200, 0)))
    double = Decisions(*(np.repeat(each, 2) for each in (single.unit, arm, single.propensity)), {}, np.zeros((400, 0)))
    flat = np.zeros((400, 2))
    one = estimate_policy(single, value, flat[:200], np.array([0.0, 1.0]))
    two = estimate_policy(double, np.repeat(value, 2), flat, np.array([0.0, 1.0]))
    for a, b in ((one.weighted, two.weighted), (one.normalised, two.normalised), (one.robust, two.robust)):
        assert (a.delta, a.se) == pytest.approx((b.delta, b.se))


def test_a_rows_model_knows_only_rows_before_it():
    rng = np.random.default_rng(0)
    decisions = Decisions(np.arange(300), rng.integers(0, 2, 300), np.full(300, 0.5), {}, rng.normal(size=(300, 2)))
    value = rng.normal(size=300)
    changed = value.copy()
    changed[200:] += 1000
    assert model_rewards(decisions, value, 2)[:200] == pytest.approx(model_rewards(decisions, changed, 2)[:200])


def test_a_model_of_the_context_makes_doubly_robust_estimates_sharper():
    rng = np.random.default_rng(0)
    context = rng.normal(size=(4000, 2))
    context[::7, 1] = np.nan
    arm = rng.integers(0, 2, 4000)
    value = 5 + np.where(arm == 1, 1, -1) * context[:, 0] + 0.2 * rng.normal(size=4000)
    decisions = Decisions(np.arange(4000), arm, np.full(4000, 0.5), {}, context)
    found = estimate_policy(decisions, value, model_rewards(decisions, value, 2), np.array([0.0, 1.0]))
    assert found.robust.delta == pytest.approx(5 + context[:, 0].mean(), abs=0.02)
    assert found.robust.se < 0.8 * found.normalised.se < 0.3 * found.weighted.se


WORLDS = {
    "thompson, equal": ("thompson", CLICK, (0.2, 0.2), {}),
    "thompson, different": ("thompson", CLICK, (0.2, 0.3), {}),
    "epsilon-greedy": ("epsilon-greedy", CLICK, (0.2, 0.25, 0.2), {}),
    "ucb1": ("ucb1", CLICK, (0.3, 0.4), {}),
    "thompson, normal": ("thompson", REVENUE, (3.0, 3.2), {}),
}


@pytest.mark.parametrize("world", WORLDS, ids=lambda name: name.replace(" ", "-"))
def test_intervals_made_from_what_a_bandit_logged_hold_the_truth(bandit, logged, world):
    policy, metric, means, settings = WORLDS[world]
    experiment = bandit(metric, policy, len(means), explore=0.2, **settings)
    rng = np.random.default_rng(7)
    held, always, errors = [], [], []
    for _ in range(100):
        decisions = logged(experiment, learn, means, rng, normal=metric is REVENUE)
        value = decisions.values[metric.name]
        modelled = model_rewards(decisions, value, len(means))
        for arm, truth in enumerate(means):
            found = estimate_policy(decisions, value, modelled, np.eye(len(means))[arm])
            kinds = (found.weighted, found.normalised, found.robust)
            held.append([low <= truth <= high for low, high in (welch_interval(each, 0.05) for each in kinds)])
            errors.append([float((each.delta - truth) / each.se) for each in kinds])
        effect = estimate_contrast(decisions, value, modelled, np.array([-1.0, 1.0, 0.0][: len(means)]))
        low, high = anytime_interval(effect, 0.05, mixture(5000, 0.05))
        always.append(low <= means[1] - means[0] <= high)
    for kind in range(3):
        missed = [not each[kind] for each in held]
        assert Rate(sum(missed), len(missed)).may_be_at_most(0.07), np.mean(missed)
        assert np.mean(missed) > 0.01
    assert np.mean(always) >= 0.98
    assert np.abs(np.mean(errors, axis=0)).max() < 0.25


def test_the_naive_average_of_what_a_bandit_chose_is_biased_and_the_estimates_are_not(bandit, logged):
    """Of equal variants, the one that had bad luck is not tried again: so its average stays low."""
    experiment = bandit(policy="epsilon-greedy", explore=0.04, warm_up=5)
    rng = np.random.default_rng(3)
    naive, robust = [], []
    for _ in range(250):
        decisions = logged(experiment, learn, (0.3, 0.3), rng, rows=400, looks=20)
        value = decisions.values["click"]
        naive.append(value[decisions.arm == 0].mean() - 0.3)
        found = estimate_policy(decisions, value, model_rewards(decisions, value, 2), np.array([1.0, 0.0]))
        robust.append(float(found.robust.delta) - 0.3)
    errors = [np.std(each) / np.sqrt(len(each)) for each in (naive, robust)]
    assert np.mean(naive) < -4 * errors[0]
    assert abs(np.mean(robust)) < 3 * errors[1]
