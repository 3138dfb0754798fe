"""The report's promises, tried on made-up experiments. Seeds are fixed."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from inferd.core.errors import ConfigError, MalformedRequest
from inferd.experiments.columns import Columns
from inferd.experiments.definition import Experiment, Metric, Variant
from inferd.experiments.draws import Draws
from inferd.experiments.population import Population, made_up, of_log
from inferd.experiments.simulation import Rate, Traffic, simulate
from inferd.experiments.statistics.power import power

DAYS, PER_DAY = 14, 500
BOUGHT = Metric("bought", "proportion", "bought", baseline=0.2)
REVENUE = Metric("revenue", "mean", "revenue", baseline=3.0, deviation=6.0)
EXPERIMENT = Experiment(
    "ranker-2",
    "ranker",
    "api-key",
    "ranker-2",
    (Variant("control", "ranker@1"), Variant("candidate", "ranker@2")),
    metrics=(BOUGHT, REVENUE),
)


def populations(*metrics):
    rng = np.random.default_rng(0)
    return {metric.name: made_up(metric, rng) for metric in metrics}


@pytest.fixture(scope="module")
def trials():
    """300 runs looked at every hour of two weeks, with and without a lift of 20 %."""
    known = populations(BOUGHT, REVENUE)
    return simulate(EXPERIMENT, known, Traffic(PER_DAY, DAYS, looks=24 * DAYS, runs=300), 0.2)


def is_near(rate, truth):
    return abs(rate.share - truth) <= 3 * sqrt(truth * (1 - truth) / rate.runs)


def test_hourly_peeking_breaks_fixed_intervals_but_not_anytime_valid_ones(trials):
    for trial in trials.metrics:
        assert trial.false_anytime.may_be_at_most(0.05)
        assert trial.false_peeking.share > 0.2
        assert is_near(trial.false_planned, 0.05)
        assert is_near(trial.covered_planned, 0.95)
        assert trial.covered_anytime.share >= 0.95
    assert trials.sound


def test_a_planted_lift_is_found_as_often_as_the_power_says(trials):
    for trial, deviation in zip(trials.metrics, (0.4, 6.0), strict=True):
        rise = 0.2 * trial.control
        promised = power(rise, deviation * sqrt(4 / (PER_DAY * DAYS)), 0.05)
        assert abs(trial.found_planned.share - promised) < 0.08
        assert 0.3 < trial.found_anytime.share <= trial.found_planned.share + 0.1
        assert 0 < trial.median_days < DAYS


def test_an_uneven_split_is_found_and_a_clean_one_is_not(trials):
    assert trials.split.found.share > 0.98
    assert trials.split.false.may_be_at_most(0.001)


def test_the_same_seed_gives_the_same_runs():
    known = populations(BOUGHT)
    traffic = Traffic(100, 7, looks=10, runs=30)
    assert simulate(EXPERIMENT, known, traffic, 0.2) == simulate(EXPERIMENT, known, traffic, 0.2)
    assert simulate(EXPERIMENT, known, traffic, 0.2) != simulate(EXPERIMENT, known, replace(traffic, seed=1), 0.2)


def test_progress_counts_every_run():
    told = []
    simulate(EXPERIMENT, populations(BOUGHT, REVENUE), Traffic(10, 7, 5, 250), 0.1, told.append)
    assert told == [100, 100, 50] * 2


def test_a_promise_that_a_heavy_tail_breaks_is_told():
    """Of a few hundred units none is the one in 2,000 that makes the metric, so no interval can know of it."""
    outcomes = np.random.default_rng(0).normal(1, 0.1, 20_000)
    outcomes[::2000] = 1e5
    ones = np.ones_like(outcomes)
    heavy = Population(np.column_stack([outcomes, ones, 0 * ones]), False)
    trials = simulate(EXPERIMENT, {"revenue": heavy}, Traffic(50, 14, looks=20, runs=100), 1.0)
    assert not trials.sound


def test_a_covariate_is_used_as_in_the_report():
    metric = replace(REVENUE, covariate="before")
    rng = np.random.default_rng(0)
    before = rng.normal(5, 2, 5000)
    units = np.column_stack([before + rng.normal(0, 0.2, 5000), np.ones(5000), before])
    with_covariate = replace(EXPERIMENT, metrics=(metric,))
    traffic = Traffic(200, 7, looks=10, runs=60)
    plain = simulate(EXPERIMENT, {"revenue": Population(units, False)}, traffic, 0.02)
    sharper = simulate(with_covariate, {"revenue": Population(units, False)}, traffic, 0.02)
    assert plain.metrics[0].found_anytime.share < 0.2
    assert sharper.metrics[0].found_anytime.share == 1
    assert sharper.sound


@pytest.mark.parametrize("kinds", [3, 5000])
def test_drawn_sums_are_those_of_the_population(kinds):
    rng = np.random.default_rng(1)
    units = rng.normal(3, 2, (kinds, 3))[np.arange(30_000) % kinds]
    arm = Draws(Population(units, False)).arms(np.array([[400_000, 0, 1_100_000], [5, 0, 0]]), rng)
    assert arm.count.tolist() == [[400_000, 400_000, 1_500_000], [5, 5, 5]]
    np.testing.assert_allclose(arm.mean[0, 2], units.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(arm.covariance[0, 2], np.cov(units.T), atol=0.05)
    np.testing.assert_array_equal(arm.mean[0, 0], arm.mean[0, 1])


def test_units_are_made_up_from_baseline_and_deviation():
    rng = np.random.default_rng(0)
    shares = made_up(BOUGHT, rng)
    assert (shares.metric, shares.binary) == (0.2, True)
    amounts = made_up(REVENUE, rng)
    assert amounts.metric == pytest.approx(3)
    assert amounts.units[:, 0].std() == pytest.approx(6, rel=0.05)
    assert amounts.units.min() >= 0
    below = made_up(replace(REVENUE, baseline=-3.0), rng)
    assert below.metric == pytest.approx(-3, abs=0.1)
    with pytest.raises(ConfigError, match=r"'revenue' needs a baseline and deviation .* \(--log\)"):
        made_up(replace(REVENUE, deviation=None), rng)
    with pytest.raises(ConfigError, match="too far from its baseline"):
        made_up(replace(REVENUE, deviation=1e200), rng)


@pytest.mark.parametrize("lift", [0.1, -0.1])
def test_a_lift_is_planted_as_a_share_of_the_metric(lift):
    rng = np.random.default_rng(0)
    for population in populations(BOUGHT, REVENUE).values():
        lifted = population.lifted(lift, rng)
        assert lifted.metric == pytest.approx(population.metric * (1 + lift))
        assert lifted.binary == population.binary


def test_a_proportion_is_not_lifted_above_one():
    with pytest.raises(ConfigError, match="cannot be raised by 500%"):
        populations(BOUGHT)["bought"].lifted(5.0, np.random.default_rng(0))


def columns(**values):
    variant = np.array([0, 0, 0, 1, 1])
    return Columns(4, np.array([0, 0, 1, 2, 3]), variant, {name: np.array(each) for name, each in values.items()})


def test_a_log_lends_the_units_of_its_control():
    nan = np.nan
    log = columns(bought=[1.0, nan, 0.0, 1.0, 1.0], revenue=[2.0, 3.0, 7.0, 100.0, 100.0])
    assert of_log(REVENUE, log).units.tolist() == [[5, 2, 0], [7, 1, 0]]
    assert of_log(REVENUE, log).metric == 4
    assert of_log(BOUGHT, log).binary
    with pytest.raises(MalformedRequest, match="no outcome of metric 'bought' in the control"):
        of_log(BOUGHT, columns(bought=[nan, nan, nan, 1.0, 1.0]))


def test_a_rate_allows_for_chance():
    assert Rate(65, 1000).may_be_at_most(0.05)
    assert not Rate(75, 1000).may_be_at_most(0.05)
    assert Rate(2, 300).may_be_at_most(0.001)
    assert Rate(0, 300).may_be_at_most(0.001)
