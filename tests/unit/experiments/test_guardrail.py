"""Guardrails: relative to control, or a limit."""

from dataclasses import replace

import numpy as np
import pytest

from inferd.experiments.columns import Columns
from inferd.experiments.definition import Guardrail, Metric
from inferd.experiments.guardrail import check_guardrails
from inferd.experiments.summary import summarise


@pytest.fixture
def rng():
    return np.random.default_rng(4)


@pytest.fixture
def check(define):
    """Judges one guardrail by columns of values of the two variants, one outcome a unit: ``check(rail, x=(…, …))``."""

    def check(rail, *metrics, alarm_p=None, **columns):
        values = {name: np.concatenate(arms).astype(np.float64) for name, arms in columns.items()}
        control, treated = next(iter(columns.values()))
        count = len(control) + len(treated)
        variant = np.repeat([0, 1], [len(control), len(treated)])
        experiment = replace(define(), metrics=metrics, guardrails=(rail,))
        summary = summarise(experiment, Columns(count, np.arange(count), variant, values))
        (found,) = check_guardrails(experiment, summary, alarm_p)
        return found

    return check


def test_failures_beyond_a_limit_are_found_among_few_predictions_without_a_metric_of_ones_own(check, rng):
    rail = Guardrail("error", limit=0.05)
    found = check(rail, error=(rng.random(60) < 0.01, rng.random(60) < 0.25))
    assert (found.conclusion, found.action) == ("broken", "rollback")
    assert "candidate is above 0.05" in found.verdict
    assert check(rail, error=(np.zeros(150), np.zeros(150))).conclusion == "holds"
    assert check(rail, error=(np.zeros(10), np.zeros(10))).conclusion == "no decision yet"
    nothing = check(rail, error=(np.empty(0), np.empty(0)))
    assert (nothing.conclusion, nothing.observed) == ("no decision yet", None)
    assert "nothing was observed" in nothing.verdict


def test_a_limit_of_a_quantile_asks_whether_too_large_a_share_is_beyond_it(check, rng):
    rail = Guardrail("latency_p95_us", limit=1000)
    fast, slow = rng.uniform(100, 900, 300), rng.uniform(100, 2_000, 300)
    assert check(rail, latency_us=(fast, slow)).conclusion == "broken"
    assert check(rail, latency_us=(slow, fast)).conclusion == "holds"
    median = Metric("median", "quantile", "revenue", goal="increase")
    low = Guardrail("median", limit=10)
    assert check(low, median, revenue=(slow, rng.uniform(0, 12, 300))).conclusion == "broken"
    assert check(low, median, revenue=(slow, rng.uniform(9, 20, 300))).conclusion == "holds"


def test_a_limit_of_a_mean_takes_an_interval_that_is_true_at_any_time(check, rng):
    revenue = Metric("revenue", "mean", "revenue")
    rail = Guardrail("revenue", limit=5)
    arms = lambda mean: (rng.normal(9, 1, 400), rng.normal(mean, 1, 400))  # noqa: E731
    assert check(rail, revenue, revenue=arms(4)).conclusion == "broken"
    assert check(rail, revenue, revenue=arms(6)).conclusion == "holds"
    assert check(rail, revenue, revenue=arms(5)).conclusion == "no decision yet"
    assert check(rail, revenue, revenue=(rng.normal(9, 1, 50), rng.normal(1, 1, 50))).conclusion == "no decision yet"


def test_a_wrong_split_voids_a_comparison_with_control_and_no_limit(check, rng):
    arms = rng.random(300) < 0.3, rng.random(300) < 0.3
    converted = Metric("converted", "proportion", "converted")
    assert check(Guardrail("converted", margin=0.5), converted, alarm_p=1e-9, converted=arms).conclusion == "void"
    assert check(Guardrail("converted", limit=0.1), converted, alarm_p=1e-9, converted=arms).conclusion == "holds"
