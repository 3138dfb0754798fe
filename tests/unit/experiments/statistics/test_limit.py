import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binom

from inferd.experiments.statistics.limit import above_p, anytime_quantile, anytime_share, below_p


@pytest.mark.parametrize(("hits", "trials", "limit"), [(8, 40, 0.05), (90, 200, 0.25), (3, 3, 0.5)])
def test_the_p_value_is_one_over_the_mean_likelihood_ratio_of_larger_shares(hits, trials, limit):
    def ratio(share):
        return (share / limit) ** hits * ((1 - share) / (1 - limit)) ** (trials - hits)

    mean = quad(ratio, limit, 1)[0] / (1 - limit)
    assert above_p(hits, trials, limit) == pytest.approx(1 / mean, rel=1e-6)
    assert below_p(trials - hits, trials, 1 - limit) == pytest.approx(1 / mean, rel=1e-6)


def test_looking_after_every_trial_alarms_falsely_in_fewer_runs_than_promised():
    rng = np.random.default_rng(3)
    for limit in (0.02, 0.2):
        hits = np.cumsum(rng.random((400, 1_000)) < limit, axis=1)
        looks = range(1, 1_001, 7)
        false = sum(any(above_p(int(run[n - 1]), n, limit) <= 0.05 for n in looks) for run in hits)
        assert false <= binom.ppf(0.999, 400, 0.05)


def test_one_failure_in_five_is_found_among_some_dozens_of_predictions():
    rng = np.random.default_rng(5)
    hits = np.cumsum(rng.random((200, 300)) < 0.2, axis=1)
    found = [next(n for n in range(1, 301) if above_p(int(run[n - 1]), n, 0.05) <= 0.05) for run in hits]
    assert np.median(found) < 50
    assert max(found) < 300


def test_no_trials_say_nothing():
    assert above_p(0, 0, 0.1) == below_p(0, 0, 0.1) == 1


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (1, 10), (5, 10), (10, 10), (983, 1_000), (999_999, 1_000_000)])
def test_the_shares_of_an_interval_are_those_that_are_not_rejected(hits, trials):
    low, high = anytime_share(hits, trials, 0.05)
    assert 0 <= low <= hits / trials <= high <= 1
    assert (low == 0) == (hits == 0)
    assert (high == 1) == (hits == trials)
    if low:
        assert above_p(hits, trials, low) == pytest.approx(0.025, rel=1e-3)
    if high < 1:
        assert below_p(hits, trials, high) == pytest.approx(0.025, rel=1e-3)


def test_an_interval_of_nothing_is_every_share():
    assert anytime_share(0, 0, 0.05) == (0, 1)


def test_the_interval_of_a_quantile_misses_it_in_fewer_runs_than_promised_however_often_one_looks():
    rng = np.random.default_rng(8)
    looks = range(10, 500, 98)
    for q, true, draw in (
        (0.5, 0.0, lambda: rng.normal(size=500)),
        (0.9, 9.0, lambda: rng.integers(0, 10, 500).astype(float)),  # with ties: P(at most 8) is 0.9, at most 9 is 1
    ):
        runs = [draw() for _ in range(80)]
        missed = 0
        for run in runs:
            ends = [anytime_quantile(run[:n], q, 0.05) for n in looks]
            missed += any(not low <= true - (q == 0.9) <= high for low, high in ends)
        assert missed <= binom.ppf(0.999, 80, 0.05), q


def test_the_interval_of_a_quantile_has_values_at_its_ends_and_narrows():
    values = np.random.default_rng(9).normal(size=2_000)
    few, many = (anytime_quantile(values[:n], 0.5, 0.05) for n in (200, 2_000))
    assert {*few, *many} <= set(values)
    assert few[0] <= many[0] < 0 < many[1] <= few[1]


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0]])
def test_too_few_values_leave_a_quantile_open(values):
    assert anytime_quantile(np.array(values), 0.5, 0.05) == (-np.inf, np.inf)
