import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.experiments.statistics.exact import exact_dot, exact_sum
from inferd.experiments.statistics.moments import Moments, arm_of_gram

FINITE = st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.lists(st.tuples(FINITE, FINITE, FINITE), max_size=30)
HOSTILE = [1e308, 1e-308, 5e-324, -1e308, 0.1, 1e16, 1.0, -1e16, 0.0, -0.0, 2.0**-1074 * 3]


@given(st.lists(FINITE, max_size=40))
def test_a_sum_is_exact_for_any_doubles(values):
    assert exact_sum(np.array(values, np.float64)) == sum(map(Fraction, values), Fraction(0))


@given(st.lists(st.tuples(FINITE, FINITE), max_size=40))
def test_a_sum_of_products_is_exact_for_any_doubles(pairs):
    left, right = (np.array([pair[i] for pair in pairs], np.float64) for i in (0, 1))
    assert exact_dot(left, right) == sum((Fraction(a) * Fraction(b) for a, b in pairs), Fraction(0))


def test_sums_survive_overflow_underflow_and_cancellation():
    values = np.array(HOSTILE)
    assert exact_sum(values) == sum(map(Fraction, HOSTILE))
    assert exact_dot(values, values[::-1]) == sum(
        Fraction(a) * Fraction(b) for a, b in zip(HOSTILE, reversed(HOSTILE), strict=True)
    )


@settings(max_examples=200)
@given(ROWS, st.lists(st.integers(0, 4), min_size=30, max_size=30), st.randoms(use_true_random=False))
def test_moments_merge_exactly_over_any_partition_and_order(rows, parts, shuffle):
    values = np.array(rows, np.float64).reshape(-1, 3)
    whole = Moments.of(values)
    pieces = [[row for row, part in zip(values, parts, strict=False) if part == i] for i in range(5)]
    merged = [Moments.of(np.array(piece).reshape(-1, 3)) for piece in pieces]
    shuffle.shuffle(merged)
    total = merged[0]
    for piece in merged[1:]:
        total = total + piece
    assert total == whole
    assert ((merged[0] + merged[1]) + merged[2]) + (merged[3] + merged[4]) == whole


def test_merged_servers_report_the_very_doubles_of_one():
    values = np.random.default_rng(1).lognormal(size=(5_000, 3))
    whole = Moments.of(values).arm()
    order = random.Random(1).sample(range(5_000), 5_000)
    parts = [Moments.of(values[order[i::7]]) for i in range(7)]
    merged = sum(parts[1:], parts[0]).arm()
    assert np.array_equal(whole.mean, merged.mean)
    assert np.array_equal(whole.covariance, merged.covariance)


def test_an_arm_has_numpys_mean_and_covariance_even_far_from_zero():
    values = np.random.default_rng(2).normal(size=(1_000, 3))
    arm = Moments.of(values).arm()
    assert arm.mean == pytest.approx(values.mean(0))
    assert arm.covariance == pytest.approx(np.cov(values.T))
    far = Moments.of(np.ldexp(np.round(np.ldexp(values, 20)), -20) + 2.0**30).arm()
    assert far.covariance == pytest.approx(np.cov(values.T), rel=1e-4)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_units_have_no_variance(count):
    arm = Moments.of(np.ones((count, 3))).arm()
    assert arm.count == count
    assert np.isnan(arm.covariance).all()
    assert np.isnan(arm.mean).all() == (count == 0)


def test_an_arm_of_sums_of_products_is_the_arm_of_the_units():
    values = np.random.default_rng(3).normal(size=(4, 50, 2))
    ones = np.ones((4, 50, 1))
    columns = np.concatenate([ones, values], axis=-1)
    arms = arm_of_gram(np.einsum("rni,rnj->rij", columns, columns))
    for run in range(4):
        one = Moments.of(values[run]).arm()
        assert arms.count[run] == 50
        assert arms.mean[run] == pytest.approx(one.mean)
        assert arms.covariance[run] == pytest.approx(one.covariance)
