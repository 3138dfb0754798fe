import numpy as np
import pytest

from inferd.experiments.statistics.imbalance import ALARM, anytime_imbalance_p, imbalance_p


def test_a_split_of_52_to_48_among_20000_units_is_an_alarm():
    assert imbalance_p([10_400, 9_600], [0.5, 0.5]) == pytest.approx(1.54e-8, rel=0.01)


def test_a_split_of_51_to_49_among_20000_units_is_none():
    assert imbalance_p([10_200, 9_800], [0.5, 0.5]) > ALARM


def test_the_planned_shares_count_not_equal_ones():
    assert imbalance_p([9_000, 1_000], [0.9, 0.1]) == 1
    assert imbalance_p([5_000, 5_000], [0.9, 0.1]) < ALARM


def test_nobody_yet_is_no_alarm():
    assert imbalance_p([0, 0, 0], [0.2, 0.3, 0.5]) == 1


def test_at_most_2_of_200_clean_runs_alarm():
    counts = np.random.default_rng(7).multinomial(20_000, [0.5, 0.3, 0.2], 200)
    assert sum(imbalance_p(row, [0.5, 0.3, 0.2]) < ALARM for row in counts) <= 2


def test_the_sequential_test_finds_52_to_48_while_it_looks_at_every_hundredth_unit():
    rng = np.random.default_rng(11)
    arrived = np.cumsum(rng.random((100, 20_000)) < 0.52, axis=1)
    looks = range(100, 20_001, 100)
    found = [
        any(anytime_imbalance_p([run[n - 1], n - run[n - 1]], [0.5, 0.5]) < ALARM for n in looks) for run in arrived
    ]
    assert sum(found) >= 90


def test_the_sequential_test_may_look_all_the_time():
    rng = np.random.default_rng(12)
    arrived = np.cumsum(rng.random((300, 5_000)) < 0.3, axis=1)
    looks = range(50, 5_001, 50)
    shares = [0.3, 0.7]
    false = [any(anytime_imbalance_p([run[n - 1], n - run[n - 1]], shares) < 0.05 for n in looks) for run in arrived]
    assert sum(false) <= 15
    assert anytime_imbalance_p([0, 0], shares) == 1
