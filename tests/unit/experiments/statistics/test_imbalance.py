import numpy as np
import pytest

from inferd.experiments.statistics.imbalance import ALARM, imbalance_p


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
