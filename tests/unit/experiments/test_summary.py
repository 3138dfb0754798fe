import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferd.experiments.columns import Columns
from inferd.experiments.summary import summarise

METRICS = """
[[metric]]
name = "click_rate"
kind = "ratio"
column = "clicks"
denominator = "views"
[[metric]]
name = "p90"
kind = "quantile"
column = "clicks"
quantile = 0.9
"""


def make(unit, variant, converted, clicks, views, time_s=None):
    unit = np.asarray(unit, np.int64)
    values = {"converted": converted, "clicks": clicks, "views": views}
    values = {name: np.asarray(column, np.float64) for name, column in values.items()}
    return Columns(int(unit.max(initial=-1)) + 1, unit, np.asarray(variant, np.int64), values, time_s)


@pytest.fixture
def experiment(define):
    return define(add=METRICS)


def test_the_outcomes_of_a_unit_are_one_entry(experiment):
    nan = np.nan
    summary = summarise(experiment, make([0, 0, 1, 2], [0, 0, 1, 0], [1, 0, 1, nan], [2, 3, 4, nan], [5, 5, 8, nan]))
    assert summary.counts == (2, 1)
    control, treated = summary.moments["converted"]
    assert (control.count, control.sums[:2]) == (1, (1, 2))
    assert (treated.count, treated.sums[:2]) == (1, (1, 1))
    assert summary.moments["click_rate"][0].sums[:2] == (5, 10)
    assert summary.outcomes["p90"][0].units == 1
    assert summary.outcomes["p90"][0].values.tolist() == [2, 3]


def test_a_unit_seen_in_two_variants_is_left_out_and_counted(experiment):
    columns = make([0, 0, 1, 2], [0, 1, 0, 1], [1, 1, 0, 1], [1, 1, 1, 1], [1, 1, 1, 1])
    summary = summarise(experiment, columns)
    assert summary.counts == (1, 1)
    assert summary.crossed == 1
    assert [arm.count for arm in summary.moments["converted"]] == [1, 1]
    assert [arm.units for arm in summary.outcomes["p90"]] == [1, 1]


def test_a_covariate_is_the_units_first_and_the_average_where_there_is_none(define):
    experiment = define("min_effect = 0.05", 'covariate = "past"')
    values = {"converted": np.array([1.0, 0, 1, 0]), "past": np.array([np.nan, 4, 6, np.nan])}
    summary = summarise(experiment, Columns(3, np.array([0, 0, 1, 2]), np.array([0, 0, 0, 1]), values))
    assert summary.moments["converted"][0].sums[2] == 10
    assert summary.moments["converted"][1].sums[2] == 5


def test_no_rows_are_an_empty_summary(experiment):
    summary = summarise(experiment, make([], [], [], [], []))
    assert summary.counts == (0, 0)
    assert summary.span_s is None


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(0, 3), min_size=40, max_size=40), st.permutations(range(4)), st.integers(0, 2**32 - 1))
def test_summaries_of_servers_add_up_exactly_over_any_partition_of_units_and_order(experiment, server, order, seed):
    rng = np.random.default_rng(seed)
    unit = rng.integers(0, 40, 120)
    variant = np.where(rng.random(120) < 0.01, 1, unit % 2)
    converted = np.where(rng.random(120) < 0.2, np.nan, rng.integers(0, 2, 120))
    clicks, views, time_s = rng.lognormal(size=120), rng.lognormal(size=120), rng.random(120)
    rows = [variant, converted, clicks, views, time_s]
    whole = summarise(experiment, make(unit, *rows))
    parts = []
    for number in order:
        mine = np.asarray(server)[unit] == number
        _, renumbered = np.unique(unit[mine], return_inverse=True)
        parts.append(summarise(experiment, make(renumbered, *(column[mine] for column in rows))))
    total = parts[0] + parts[1] + (parts[2] + parts[3])
    assert total.counts == whole.counts
    assert total.crossed == whole.crossed
    assert total.moments == whole.moments
    assert total.span_s == whole.span_s
    for one, other in zip(total.outcomes["p90"], whole.outcomes["p90"], strict=True):
        assert sorted(one.values) == sorted(other.values)
        assert one.units == other.units
