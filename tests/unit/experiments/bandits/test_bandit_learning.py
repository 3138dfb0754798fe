"""What decisions and rewards teach a bandit, and when that is put in place."""

import json
from dataclasses import replace

import numpy as np
import pytest

from inferd.experiments.bandits.decisions import Decisions
from inferd.experiments.bandits.learned import Learned, chances, learn
from inferd.experiments.bandits.linear import Scorer, fit
from inferd.experiments.bandits.policies import thompson_beta
from inferd.experiments.bandits.rewards import Rewards
from inferd.experiments.definition import Metric
from inferd.experiments.position import Position, at_position, learned_at

CLICK = Metric("click", "proportion", "click")
REVENUE = Metric("revenue", "mean", "revenue")
ALL = 10_000


def bits(ones, zeros):
    return [1.0] * ones + [0.0] * zeros


def test_until_each_variant_has_its_rewards_all_goes_by_the_weights(bandit, decided):
    experiment = bandit(warm_up=30)
    found = learn(experiment, decided("click", bits(500, 0), bits(0, 29)))
    assert found == Learned((500, 29), (1.0, 0.0), (5000, 5000))
    assert learn(experiment, decided("click", bits(500, 0), bits(0, 30))).buckets == (9500, 500)
    assert learn(experiment, decided("click", [], [])) == Learned((0, 0), (None, None), (5000, 5000))


def test_what_is_not_known_yet_counts_for_nothing_and_against_nobody(bandit, decided):
    experiment = bandit()
    known = decided("click", bits(30, 30), bits(35, 25))
    rows = len(known.arm)
    waiting = Decisions(
        np.arange(rows + 900),
        np.concatenate([known.arm, np.ones(900, np.int64)]),
        np.full(rows + 900, 0.5),
        {"click": np.concatenate([known.values["click"], np.full(900, np.nan)])},
        np.zeros((rows + 900, 0)),
    )
    assert learn(experiment, waiting) == learn(experiment, known)


def test_thompson_gives_each_variant_the_chance_that_it_is_the_best_one(bandit, decided):
    experiment = bandit(explore=0.1)
    counts = np.array([60.0, 60.0])
    chance = thompson_beta(Rewards(counts, np.array([30.0, 35.0]), np.array([30.0, 35.0])))
    found = learn(experiment, decided("click", bits(30, 30), bits(35, 25)))
    assert np.array(found.buckets) / ALL == pytest.approx(0.05 + 0.9 * chance, abs=2e-4)


@pytest.mark.parametrize("policy", ["epsilon-greedy", "thompson", "ucb1"])
@pytest.mark.parametrize("kind", ["proportion", "mean"])
def test_of_a_metric_that_shall_decrease_the_least_is_the_best(bandit, decided, policy, kind):
    settings = {"span": (0.0, 1.0)} if (policy, kind) == ("ucb1", "mean") else {}
    low, high = bits(20, 380), bits(380, 20)
    less = bandit(Metric("slow", kind, "slow", goal="decrease"), policy, **settings)
    more = bandit(Metric("slow", kind, "slow"), policy, **settings)
    assert learn(less, decided("slow", low, high)).buckets[0] > 9400
    assert learn(more, decided("slow", low, high)).buckets[0] < 600


def test_ucb1_counts_with_rewards_between_the_ends_of_its_span(bandit, decided):
    rewards = [bits(200, 200), bits(210, 190)]
    dear = [[100 * each for each in arm] for arm in rewards]
    cheap = learn(bandit(CLICK, "ucb1"), decided("click", *rewards))
    assert learn(bandit(REVENUE, "ucb1", span=(0.0, 100.0)), decided("revenue", *dear)).buckets == cheap.buckets
    outlier = learn(bandit(REVENUE, "ucb1", span=(0.0, 100.0)), decided("revenue", dear[0] + [1e9], dear[1]))
    assert outlier.buckets == cheap.buckets


def test_weights_share_out_what_explores(bandit, decided):
    experiment = bandit(policy="epsilon-greedy", arms=3, explore=0.2)
    weights = (2.0, 1.0, 1.0)
    variants = tuple(replace(each, weight=weight) for each, weight in zip(experiment.variants, weights, strict=True))
    found = learn(replace(experiment, variants=variants), decided("click", bits(9, 91), bits(50, 50), bits(9, 91)))
    assert found.buckets == pytest.approx((1000, 8500, 500), abs=2)


def test_the_same_data_teach_the_same_whatever_comes_in_between(bandit, decided):
    experiment = bandit(arms=3)
    decisions = decided("click", bits(40, 60), bits(45, 55), bits(44, 56))
    assert learn(experiment, decisions) == learn(experiment, decisions)
    assert Learned.of(learn(experiment, decisions).text()) == learn(experiment, decisions)


def contextual(rng, rows):
    """The second variant earns more where the context is high, the first where it is low; both the same on average."""
    context = np.column_stack([rng.normal(50, 10, rows), rng.normal(0, 1, rows)])
    arm = rng.integers(0, 2, rows)
    value = 3 + np.where(arm == 1, 1, -1) * (context[:, 0] - 50) / 10 + rng.normal(size=rows)
    return Decisions(np.arange(rows), arm, np.full(rows, 0.5), {"revenue": value}, context)


def test_linucb_chooses_by_the_context(bandit):
    experiment = bandit(REVENUE, "linucb", context=("header:X-Age", "parameter:hour"))
    decisions = contextual(np.random.default_rng(0), 2000)
    found = learn(experiment, decisions)
    at = chances(experiment, found, np.array([[30.0, 0], [70.0, 0], [70.0, 3]]))
    assert at == pytest.approx(np.array([[0.95, 0.05], [0.05, 0.95], [0.05, 0.95]]))
    assert found.buckets == pytest.approx((5000, 5000), abs=400)
    assert Learned.of(found.text()) == found


def test_linucb_is_the_papers_formula():
    rng = np.random.default_rng(1)
    decisions = contextual(rng, 200)
    reward = decisions.values["revenue"]
    linear = fit(decisions, reward, 2, 1.5)
    x = (decisions.context - decisions.context.mean(axis=0)) / decisions.context.std(axis=0)
    z = np.column_stack([np.ones(200), x])
    at = np.concatenate(
        [[1.0], (np.array([60.0, 1.0]) - decisions.context.mean(axis=0)) / decisions.context.std(axis=0)]
    )
    expected = []
    for arm in (0, 1):
        own = decisions.arm == arm
        a = np.eye(3) + z[own].T @ z[own]
        theta = np.linalg.solve(a, z[own].T @ reward[own])
        expected.append(theta @ at + 1.5 * reward.std() * np.sqrt(at @ np.linalg.solve(a, at)))
    assert Scorer(linear).scores(np.array([[60.0, 1.0]]))[0] == pytest.approx(expected)


def test_rows_without_their_context_teach_linucb_nothing(bandit):
    experiment = bandit(REVENUE, "linucb", context=("header:X-Age", "parameter:hour"))
    decisions = contextual(np.random.default_rng(0), 500)
    broken = decisions.context.copy()
    broken[400:, 0] = np.nan
    kept = learn(experiment, decisions.where(np.arange(500) < 400)).linear
    assert learn(experiment, replace(decisions, context=broken)).linear == kept


def test_only_what_moves_a_variant_by_one_in_a_hundred_is_news(bandit):
    experiment = bandit()
    first = Learned((50, 50), (0.1, 0.2), (5099, 4901))
    assert not first.is_news(None, experiment)
    second = replace(first, buckets=(5100, 4900))
    assert second.is_news(None, experiment)
    assert not replace(second, buckets=(5199, 4801)).is_news(second, experiment)
    assert replace(second, buckets=(5200, 4800)).is_news(second, experiment)


def test_of_linucb_a_tenth_more_rewards_of_a_variant_is_news(bandit):
    experiment = bandit(REVENUE, "linucb", context=("header:X-Age", "parameter:hour"))
    decisions = contextual(np.random.default_rng(0), 500)
    found = replace(learn(experiment, decisions), rewards=(100, 100))
    assert found.is_news(None, experiment)
    assert not replace(found, rewards=(110, 110)).is_news(found, experiment)
    assert replace(found, rewards=(100, 111)).is_news(found, experiment)


def test_what_was_learned_stands_in_for_the_weights_while_it_fits_the_definition(bandit):
    experiment = bandit()
    position = Position(learned=Learned((50, 50), (0.1, 0.2), (2000, 8000)).text())
    assert at_position(experiment, position).shares == (0.2, 0.8)
    assert at_position(bandit(arms=3), position).shares == pytest.approx((1 / 3,) * 3)
    assert at_position(replace(experiment, mode="fixed", bandit=None), position).shares == (0.5, 0.5)


def test_another_context_makes_a_linear_model_void(bandit):
    experiment = bandit(REVENUE, "linucb", context=("header:X-Age", "parameter:hour"))
    found = learn(experiment, contextual(np.random.default_rng(0), 500))
    position = Position(learned=found.text())
    assert learned_at(experiment, position) == found
    assert learned_at(bandit(REVENUE, "linucb", context=("header:X-Age",)), position) is None
    assert learned_at(bandit(REVENUE, context=("header:X-Age", "parameter:hour")), position) is None
    assert json.loads(position.learned)["rewards"] == list(found.rewards)
