"""What policies would choose, held against other ways to compute the same. Seeds are fixed."""

import numpy as np
import pytest

from inferd.experiments.assignment import BUCKETS
from inferd.experiments.bandits.policies import best, dealt, explored, greedy, thompson_beta, thompson_gaussian, ucb1
from inferd.experiments.bandits.rewards import Rewards

DRAWS = 200_000


def ones(*counts):
    """Rewards 0 and 1: pairs of how many there are and how many are 1."""
    count, total = np.array(counts, float).T
    return Rewards(count, total, total)


@pytest.mark.parametrize(
    "counts",
    [[(100, 30), (200, 70)], [(30, 0), (30, 0), (30, 0)], [(50, 12), (10_000, 2000)], [(9, 3), (9, 5), (5, 5)]],
)
def test_the_chance_to_be_best_is_how_often_a_draw_of_the_beta_posteriors_is(counts):
    rewards = ones(*counts)
    draws = np.random.default_rng(0).beta(1 + rewards.total, 1 + rewards.count - rewards.total, (DRAWS, len(counts)))
    drawn = np.bincount(draws.argmax(axis=1), minlength=len(counts)) / DRAWS
    assert thompson_beta(rewards) == pytest.approx(drawn, abs=0.004)


@pytest.mark.parametrize("sizes", [(30, 40), (8, 500, 20)])
def test_the_chance_to_be_best_is_how_often_a_draw_of_the_gaussian_posteriors_is(sizes):
    rng = np.random.default_rng(1)
    samples = [rng.normal(0.1 * arm, 1 + arm, size) for arm, size in enumerate(sizes)]
    arm = np.repeat(np.arange(len(sizes)), sizes)
    rewards = Rewards.of(arm, np.concatenate(samples), len(sizes))
    scales = [each.std() * np.sqrt(len(each) / (len(each) - 2)) / np.sqrt(len(each)) for each in samples]
    posteriors = [
        each.mean() + scale * rng.standard_t(len(each) - 2, DRAWS) for each, scale in zip(samples, scales, strict=True)
    ]
    drawn = np.bincount(np.argmax(posteriors, axis=0), minlength=len(sizes)) / DRAWS
    assert thompson_gaussian(rewards) == pytest.approx(drawn, abs=0.004)


def test_rewards_that_are_all_alike_have_an_order_too():
    alike = Rewards.of(np.repeat([0, 1, 2], 6), np.repeat([0.5, 0.5, 0.6], 6), 3)
    assert thompson_gaussian(alike) == pytest.approx([0, 0, 1], abs=1e-9)
    assert thompson_gaussian(Rewards.of(np.repeat([0, 1], 6), np.full(12, 0.5), 2)) == pytest.approx([0.5, 0.5])


def test_greedy_takes_the_highest_average_and_shares_among_equals():
    assert greedy(ones((10, 5), (4, 3), (100, 60))).tolist() == [0, 1, 0]
    assert greedy(ones((10, 5), (4, 2), (10, 1))).tolist() == [0.5, 0.5, 0]


def test_ucb1_prefers_what_is_little_known_and_is_the_formula():
    assert ucb1(ones((1000, 500), (10, 4))).tolist() == [0, 1]
    assert ucb1(ones((1000, 500), (1000, 400))).tolist() == [1, 0]
    edge = 0.5 + np.sqrt(2 * np.log(1010) / 1000) - np.sqrt(2 * np.log(1010) / 10)
    assert ucb1(Rewards(np.array([1000.0, 10]), np.array([500, 10 * edge + 1e-6]), np.zeros(2))).tolist() == [0, 1]
    assert ucb1(Rewards(np.array([1000.0, 10]), np.array([500, 10 * edge - 1e-6]), np.zeros(2))).tolist() == [1, 0]


@pytest.mark.parametrize("policy", [greedy, ucb1, thompson_beta, thompson_gaussian])
def test_many_runs_at_once_are_as_one_by_one(policy):
    runs = [ones((50, 20), (60, 30), (40, 9)), ones((50, 10), (60, 9), (400, 99))]
    together = Rewards(*(np.stack([getattr(run, name) for run in runs]) for name in ("count", "total", "squares")))
    assert policy(together) == pytest.approx(np.stack([policy(run) for run in runs]))


def test_no_variant_is_ever_chosen_less_than_its_part_of_what_explores():
    chances = explored(np.array([0.0, 1.0, 0.0]), np.array([0.5, 0.25, 0.25]), 0.2)
    assert chances == pytest.approx([0.1, 0.85, 0.05])
    assert best(np.array([1.0, 3.0])).tolist() == [0, 1]


@pytest.mark.parametrize("chances", [(1.0, 0.0), (1 / 3, 1 / 3, 1 / 3), (0.99999, 0.00001), (0.2,) * 5, (0, 0, 1)])
def test_all_buckets_are_dealt_each_variant_has_one_and_none_is_off_by_more_than_one_in_a_thousand(chances):
    buckets = dealt(chances)
    assert sum(buckets) == BUCKETS
    assert min(buckets) >= 1
    assert np.array(buckets) / BUCKETS == pytest.approx(np.array(chances), abs=1e-3)


def test_statistics_of_disjoint_rewards_add_up():
    rng = np.random.default_rng(2)
    arm, reward = rng.integers(0, 3, 100), rng.normal(size=100)
    whole = Rewards.of(arm, reward, 3)
    parts = Rewards.of(arm[:40], reward[:40], 3) + Rewards.of(arm[40:], reward[40:], 3)
    assert (whole.count == parts.count).all()
    assert whole.mean == pytest.approx(parts.mean)
    assert whole.spread == pytest.approx([((reward[arm == k] - reward[arm == k].mean()) ** 2).sum() for k in range(3)])
