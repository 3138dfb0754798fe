"""The report of a bandit: weighed, and void where rewards are lost."""

from dataclasses import replace

import numpy as np
import pytest

from inferd.experiments.bandits.decisions import Decisions
from inferd.experiments.bandits.learned import learn
from inferd.experiments.bandits.report import bandit_report
from inferd.experiments.definition import Metric

CLICK = Metric("click", "proportion", "click", min_effect=0.1)


def with_automatic(decisions):
    zeros = np.zeros(len(decisions.arm))
    return replace(decisions, values={**decisions.values, "error": zeros, "rejected": zeros, "latency_us": 5 + zeros})


@pytest.fixture
def found(bandit, logged):
    """The report on a bandit whose second variant is better, and its decisions."""

    def found(means=(0.3, 0.5), rows=4000, keep=None):
        experiment = bandit(CLICK)
        decisions = with_automatic(logged(experiment, learn, means, np.random.default_rng(0), rows=rows))
        if keep is not None:
            decisions.values["click"][~keep(decisions)] = np.nan
        return bandit_report(experiment, decisions), decisions

    return found


def test_it_tells_what_is_known_and_that_averages_are_no_estimates(found):
    report, decisions = found()
    first, second = report.variants
    assert (report.predictions, report.rewards, first.predictions + second.predictions) == (4000, 4000, 4000)
    assert second.share > 0.8
    assert second.average == pytest.approx(decisions.values["click"][decisions.arm == 1].mean())
    assert first.weight == 0.5
    assert report.earned == pytest.approx(decisions.values["click"].mean())


def test_it_finds_the_better_variant_and_what_learning_was_worth(found):
    report, _ = found()
    (click,) = report.comparisons
    assert click.conclusion == "better"
    assert click.estimate.anytime.low < 0.2 < click.estimate.anytime.high
    assert click.estimate.control == pytest.approx(0.3, abs=0.06)
    gain = report.gain
    assert 0 < gain.anytime.low < report.earned - 0.4 < gain.anytime.high
    assert not report.split_alarm


def test_of_equal_variants_nothing_is_found(found):
    report, _ = found((0.3, 0.3))
    assert report.comparisons[0].conclusion == "no decision yet"
    assert report.gain.anytime.low < 0 < report.gain.anytime.high


def test_with_few_rewards_nothing_is_said(found):
    report, _ = found(rows=100)
    assert report.comparisons[0].conclusion == "too early"
    nothing, _ = found(rows=0)
    assert (nothing.earned, nothing.gain, nothing.split_p, nothing.days) == (None, None, 1.0, None)
    assert all(each.robust is None for each in nothing.policies)


@pytest.mark.parametrize(("explore", "rows", "known"), [(0.1, 599, False), (0.1, 600, True), (0.01, 5999, False)])
def test_how_many_rewards_it_takes_follows_from_the_least_chance(bandit, decided, explore, rows, known):
    experiment = bandit(CLICK, explore=explore)
    half = [float(number % 3 == 0) for number in range(rows // 2)]
    report = bandit_report(experiment, with_automatic(decided("click", half, half + [0.0] * (rows % 2))))
    assert all((each.robust is not None) == known for each in report.policies)
    assert (report.comparisons[0].conclusion == "too early") == (not known)


def test_rewards_that_wait_are_no_alarm_and_rewards_lost_of_one_variant_are(found):
    rng = np.random.default_rng(1)
    late, _ = found(keep=lambda decisions: rng.random(4000) < 0.5)
    assert not late.split_alarm
    lost, _ = found(keep=lambda decisions: (decisions.arm == 1) | (rng.random(4000) < 0.5))
    assert lost.split_alarm
    assert lost.comparisons[0].conclusion == "void"


def test_a_variant_of_which_all_rewards_are_lost_is_found_by_the_others(found):
    lost, _ = found(keep=lambda decisions: decisions.arm == 0)
    assert lost.split_alarm


@pytest.mark.parametrize("seed", range(5))
def test_a_variant_that_is_rarely_chosen_is_no_alarm(bandit, seed):
    rng = np.random.default_rng(seed)
    arm = (rng.random(500) < 0.01).astype(int)
    propensity = np.where(arm == 1, 0.01, 0.99)
    decisions = Decisions(np.arange(500), arm, propensity, {"click": rng.random(500)}, np.zeros((500, 0)))
    assert bandit_report(bandit(CLICK), with_automatic(decisions)).split_p > 0.05


def test_what_is_measured_of_every_prediction_is_compared_too(found):
    report, _ = found()
    assert [each.metric for each in report.automatic] == ["error", "rejected", "latency_us"]
    assert [each.verdict.partition(":")[0] for each in report.automatic[:2]] == ["too early"] * 2


def test_a_bandit_that_never_chose_a_variant_says_nothing_of_it(bandit):
    experiment = bandit(CLICK)
    rows = 600
    decisions = with_automatic(
        Decisions(
            np.arange(rows), np.zeros(rows, int), np.full(rows, 0.99), {"click": np.ones(rows)}, np.zeros((rows, 0))
        )
    )
    report = bandit_report(experiment, decisions)
    assert report.comparisons[0].conclusion == "void"
    assert report.policies[0].robust.mean == pytest.approx(1.0, abs=0.01)
    assert report.policies[1].robust is None
