import pytest
from statsmodels.stats.power import NormalIndPower

from inferd.experiments.statistics.power import least_effect, power, units_needed, units_needed_anytime
from inferd.experiments.statistics.sequential import mixture


@pytest.mark.parametrize(("effect", "n"), [(0.1, 500), (0.2, 200), (0.05, 5000)])
def test_power_is_statsmodels(effect, n):
    theirs = NormalIndPower().power(effect, n, 0.05, ratio=1)
    assert power(effect, (2 / n) ** 0.5, 0.05) == pytest.approx(theirs)


def test_power_of_nothing_is_alpha():
    assert power(0.0, 1.0, 0.05) == pytest.approx(0.05)


@pytest.mark.parametrize(("effect", "wanted"), [(0.1, 0.8), (0.02, 0.9)])
def test_units_needed_are_statsmodels(effect, wanted):
    theirs = 2 * NormalIndPower().solve_power(effect, None, 0.05, wanted, ratio=1)
    assert units_needed(effect, 4.0, 0.05, wanted) == pytest.approx(theirs, rel=1e-3)


def test_the_textbook_answer_for_a_fifth_of_a_deviation():
    """Cohen: 393 a group for d = 0.2 at alpha .05 and power .80, by the normal approximation."""
    assert units_needed(0.2, 4.0, 0.05, 0.8) / 2 == pytest.approx(393, abs=1)


def test_looking_at_any_time_costs_units_but_not_many_times_as_many():
    planned = units_needed(0.05, 4.0, 0.05, 0.8)
    anytime = units_needed_anytime(0.05, 4.0, 0.05, 0.8, mixture(planned, 0.05))
    assert 1.2 < anytime / planned < 2.5


def test_the_least_effect_is_found_with_the_wanted_power():
    assert power(least_effect(0.3, 0.05, 0.8), 0.3, 0.05) == pytest.approx(0.8, abs=1e-4)
