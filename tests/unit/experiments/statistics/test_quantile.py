import numpy as np
import pytest
from scipy import stats

from inferd.experiments.statistics.quantile import Outcomes, quantile_difference


def single(values):
    return Outcomes(np.asarray(values, float), np.arange(len(values)), len(values))


def test_a_quantile_is_a_value_of_the_sample():
    assert single([5, 1, 4, 2, 3]).quantile(0.5) == 3
    assert single([5, 1, 4, 2]).quantile(0.99) == 5


def test_the_bootstrap_agrees_with_scipys():
    rng = np.random.default_rng(3)
    control, treated = rng.lognormal(size=600), rng.lognormal(0.2, size=700)
    ours = quantile_difference(single(control), single(treated), 0.5, 0.05, 2_000, 1)
    theirs = stats.bootstrap(
        (treated, control),
        lambda a, b, axis: np.median(a, axis) - np.median(b, axis),
        n_resamples=2_000,
        method="percentile",
        rng=np.random.default_rng(2),
    )
    assert ours.delta == pytest.approx(np.median(treated) - np.median(control), abs=0.01)
    assert ours.se == pytest.approx(theirs.standard_error, rel=0.1)
    assert ours.interval == pytest.approx(tuple(theirs.confidence_interval), abs=0.3 * ours.se)
    assert (ours.p < 0.05) == (ours.interval[0] > 0 or ours.interval[1] < 0)


def test_the_median_has_the_textbooks_error():
    """sqrt(pi / 2) deviations over sqrt(n), for normal values."""
    rng = np.random.default_rng(4)
    one = quantile_difference(single(rng.normal(size=4_000)), single(rng.normal(size=4_000)), 0.5, 0.05, 500, 1)
    assert one.se == pytest.approx(np.sqrt(np.pi / 2 * 2 / 4_000), rel=0.15)


def test_outcomes_of_one_unit_move_together():
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(2, 200))
    values = (centres[:, :, None] + 0.1 * rng.normal(size=(2, 200, 10))).reshape(2, -1)
    owner = np.repeat(np.arange(200), 10)
    clustered = quantile_difference(*(Outcomes(v, owner, 200) for v in values), 0.5, 0.05, 300, 1)
    alone = quantile_difference(*map(single, values), 0.5, 0.05, 300, 1)
    assert clustered.se > 2 * alone.se


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(6)
    hits = 0
    for run in range(300):
        interval = quantile_difference(
            single(rng.exponential(size=200)), single(rng.exponential(size=200) + 0.5), 0.5, 0.1, 200, run
        ).interval
        hits += interval[0] <= 0.5 <= interval[1]
    assert hits / 300 == pytest.approx(0.9, abs=0.06)


def test_the_same_seed_gives_the_same_interval():
    rng = np.random.default_rng(8)
    arms = single(rng.normal(size=100)), single(rng.normal(size=100))
    assert quantile_difference(*arms, 0.9, 0.05, 100, 5) == quantile_difference(*arms, 0.9, 0.05, 100, 5)
