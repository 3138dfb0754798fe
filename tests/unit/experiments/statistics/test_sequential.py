from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferd.experiments.statistics.effect import Difference
from inferd.experiments.statistics.sequential import anytime_interval, anytime_p, critical, mixture


def effect(delta, se, units):
    return Difference(*(np.asarray(x, float) for x in (1.0, delta, se, units, units)))


def test_the_half_width_is_the_published_formula():
    n, sigma, alpha, rho = 1234, 3.5, 0.05, 0.03
    published = sigma * sqrt(2 * (n * rho**2 + 1) / (n**2 * rho**2) * log(sqrt(n * rho**2 + 1) / alpha))
    low, high = anytime_interval(effect(0.0, sigma / sqrt(n), n), alpha, rho**2)
    assert (low, high) == pytest.approx((-published, published))


@pytest.mark.parametrize(("tuning_units", "alpha"), [(500, 0.05), (5000, 0.05), (100_000, 0.01)])
def test_the_interval_is_tightest_about_where_it_was_tuned(tuning_units, alpha):
    here = critical(tuning_units, alpha, mixture(tuning_units, alpha))
    elsewhere = [
        critical(tuning_units, alpha, mixture(round(tuning_units * x), alpha)) for x in np.geomspace(0.1, 10, 101)
    ]
    assert here <= 1.005 * min(elsewhere)
    assert here < 3.6


@given(st.floats(-3, 3), st.floats(0.01, 2), st.integers(100, 10**7), st.floats(0.001, 0.3), st.integers(100, 10**6))
def test_the_p_value_and_the_interval_agree(delta, se, units, alpha, tuning_units):
    rho2 = mixture(tuning_units, alpha)
    one = effect(delta, se, units)
    p = float(anytime_p(one, rho2))
    low, high = anytime_interval(one, alpha, rho2)
    if abs(p - alpha) > 1e-9:
        assert (p < alpha) == (low > 0 or high < 0)


def test_it_is_wider_than_a_planned_look_and_still_shrinks_to_nothing():
    rho2 = mixture(5000, 0.05)
    units = np.geomspace(100, 1e9, 50)
    reach = critical(units, 0.05, rho2)
    assert (reach > 1.96).all()
    assert (np.diff(reach / np.sqrt(units)) < 0).all()


def test_any_number_of_looks_at_gaussian_noise_stays_below_alpha():
    rng = np.random.default_rng(5)
    units = np.arange(100, 20_001, 100)
    walks = np.cumsum(rng.normal(0, 10, (4_000, units.size)), axis=1) / units
    looks = effect(walks, 1 / np.sqrt(units), units)
    ever = (anytime_p(looks, mixture(5000, 0.05)) <= 0.05).any(axis=1).mean()
    assert ever <= 0.05
    assert ever > 0.01
