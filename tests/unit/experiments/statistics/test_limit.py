import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binom

from inferd.experiments.statistics.limit import above_p, below_p


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
