"""Decisions and rewards as the database gives them back, in both databases."""

from dataclasses import replace
from math import isnan, nan

import numpy as np
import pytest

from inferd.experiments.automatic import automatic_metrics
from inferd.experiments.bandits.learned import learn
from inferd.experiments.definition import Metric
from inferd.experiments.events import Exposure, Feedback
from inferd.experiments.store import Store

REVENUE = Metric("revenue", "mean", "revenue")
NOW = {"window_s": 60, "now_ms": 2000}


@pytest.fixture
def store(url):
    store = Store.open(url)
    yield store
    store.close()


def exposed(number, variant="v0", unit=None, outcome="ok", propensity=0.5, context=()):
    unit = unit or f"u-{number}"
    return Exposure(f"p-{number}", "e", variant, unit, False, 1000 + number, 10, outcome, propensity, context=context)


def told(number, value, metric="revenue", key=""):
    return Feedback(metric, value, 1500, f"{metric}{number}{key}", prediction_id=f"p-{number}")


def test_each_prediction_has_its_chance_and_its_reward(store, bandit):
    experiment = bandit(REVENUE)
    store.add_events([exposed(1, "v1", propensity=0.9), exposed(0), exposed(2)])
    store.add_feedback([told(1, 7.0), told(2, 1.0), told(2, 4.0, key="again"), told(0, 9.0, "other")], **NOW)
    found = store.decisions(experiment, experiment.metrics)
    assert found.arm.tolist() == [0, 1, 0]
    assert found.propensity.tolist() == [0.5, 0.9, 0.5]
    assert [None if isnan(each) else each for each in found.values["revenue"]] == [None, 7.0, 2.5]
    assert found.time_s == pytest.approx([1.0, 1.001, 1.002])
    assert found.told("revenue").arm.tolist() == [1, 0]


def test_what_the_variant_did_not_answer_is_no_decision(store, bandit):
    store.add_events([exposed(0, outcome="fallback"), exposed(1), replace(exposed(2), experiment="other")])
    assert store.decisions(bandit(REVENUE), [REVENUE]).arm.tolist() == [0]


def test_the_rewards_of_a_unit_that_saw_several_variants_go_to_the_predictions_they_are_of(store, bandit):
    store.add_events([exposed(0, "v0", "u"), exposed(1, "v1", "u"), exposed(2, "v0", "w")])
    store.add_feedback([told(1, 5.0), Feedback("revenue", 3.0, 1500, "k", experiment="e", unit="u")], **NOW)
    found = store.decisions(bandit(REVENUE), [REVENUE])
    assert found.values["revenue"][:2].tolist() == [3.0, 5.0]
    assert found.unit.tolist() == [0, 0, 1]


def test_what_is_measured_of_every_prediction_needs_no_feedback(store, bandit):
    store.add_events([exposed(0), exposed(1, outcome="internal"), exposed(2, outcome="unavailable")])
    experiment = bandit(REVENUE)
    metrics = [each for each in automatic_metrics(experiment) if each.kind != "quantile"]
    found = store.decisions(experiment, metrics).values
    assert found["error"].tolist() == [0, 1, 1]
    assert found["rejected"].tolist() == [0, 0, 1]
    assert np.isnan(found["latency_us"]).tolist() == [False, True, True]


def test_the_context_comes_back_and_one_of_another_width_is_unknown(store, bandit):
    experiment = bandit(REVENUE, "linucb", context=("header:A", "header:B"))
    store.add_events(
        [exposed(0, context=(1.5, nan)), exposed(1), exposed(2, context=(1.0,)), exposed(3, context=(3, 4))]
    )
    found = store.decisions(experiment, [REVENUE]).context
    assert found[3].tolist() == [3, 4]
    assert found[0, 0] == 1.5
    assert np.isnan(found[[0, 1, 2], [1, 0, 0]]).all()


def test_servers_that_share_a_store_learn_the_same(store, url, bandit):
    rng = np.random.default_rng(0)
    variants = rng.integers(0, 2, 200)
    store.add_events([exposed(n, f"v{variants[n]}") for n in range(200)])
    other = Store.open(url)
    order = rng.permutation(200)
    store.add_feedback([told(int(n), float(rng.random())) for n in order[:100]], **NOW)
    other.add_feedback([told(int(n), float(rng.random())) for n in order[100:]], **NOW)
    experiment = bandit(REVENUE)
    assert learn(experiment, store.decisions(experiment, [REVENUE])) == learn(
        experiment, other.decisions(experiment, [REVENUE])
    )
    other.close()
