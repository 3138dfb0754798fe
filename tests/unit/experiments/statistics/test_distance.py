import numpy as np
import pytest
from scipy.stats import ks_2samp

from inferd.experiments.statistics.distance import label_distance, score_distance


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def test_the_distance_of_labels_is_the_share_that_would_have_to_change():
    labels = np.array(["a"] * 6 + ["b"] * 4 + ["a"] * 3 + ["b"] * 5 + ["c"] * 2, object)
    treated = np.arange(20) >= 10
    found = label_distance(labels, np.arange(20), treated, 50, 0)
    assert found.distance == pytest.approx(0.3)


def test_the_distance_of_scores_is_that_of_kolmogorov_and_smirnov_with_ties_too(rng):
    one, other = np.round(rng.normal(0, 1, 300), 1), np.round(rng.normal(0.4, 1, 200), 1)
    scores, treated = np.concatenate([one, other]), np.arange(500) >= 300
    found = score_distance(scores, np.arange(500), treated, 50, 0)
    assert found.distance == pytest.approx(ks_2samp(one, other).statistic)


def test_answers_that_do_not_differ_are_farther_apart_than_chance_in_about_one_run_of_twenty(rng):
    runs = []
    for _ in range(200):
        treated = rng.random(100) < 0.5
        labels = rng.integers(0, 4, 100)
        found = label_distance(labels, np.arange(100), treated, 100, 1)
        runs.append(found.distance > found.by_chance)
    assert 0 < sum(runs) <= 22


def test_units_with_many_answers_count_as_units(rng):
    """Each unit always gets the same answer, so 20 units with 50 answers each prove no more than 20 answers do."""
    false = 0
    for _ in range(100):
        label_of = rng.integers(0, 2, 20)
        treated = np.arange(20) % 2 == 0
        owner = np.repeat(np.arange(20), 50)
        found = label_distance(label_of[owner], owner, treated, 100, 1)
        false += found.distance > found.by_chance
    assert false <= 13


def test_one_unit_on_each_side_proves_nothing():
    found = label_distance(np.array([0, 1]), np.array([0, 1]), np.array([False, True]), 50, 0)
    assert (found.distance, found.by_chance) == (1.0, 1.0)
