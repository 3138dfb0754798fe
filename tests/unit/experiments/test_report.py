from dataclasses import replace

import numpy as np
import orjson
import pytest
from statsmodels.stats.proportion import proportions_ztest

from inferd.experiments.columns import Columns, value_names
from inferd.experiments.definition import Guardrail, Metric, Variant
from inferd.experiments.report import report
from inferd.experiments.report_html import report_html
from inferd.experiments.summary import summarise

REVENUE = Metric("revenue", "mean", "revenue", min_effect=0.05)


@pytest.fixture
def rng():
    return np.random.default_rng(21)


@pytest.fixture
def judge(define):
    """The report on one outcome a unit: ``judge(metric, control, treated)``."""

    def judge(metric, *arms, days=None, **changes):
        values = {name: np.concatenate([np.atleast_2d(arm)[i] for arm in arms]) for i, name in enumerate(names(metric))}
        variant = np.repeat(np.arange(len(arms)), [np.atleast_2d(arm).shape[1] for arm in arms])
        count = len(variant)
        time_s = None if days is None else np.linspace(0, days * 86_400, count)
        experiment = replace(define(), metrics=(metric,), **changes)
        return report(experiment, summarise(experiment, Columns(count, np.arange(count), variant, values, time_s)))

    def names(metric):
        return [name for name in (metric.column, metric.denominator, metric.covariate) if name]

    return judge


def test_a_clear_gain_is_better_at_any_time(judge, rng):
    found = judge(REVENUE, rng.normal(10, 2, 3_000), rng.normal(11, 2, 3_000))
    (one,) = found.comparisons
    assert one.conclusion == "better"
    assert "candidate is higher by" in one.verdict
    assert "true whenever you look" in one.verdict
    estimate = one.estimate
    assert estimate.anytime.low < estimate.fixed.low < estimate.delta < estimate.fixed.high < estimate.anytime.high
    assert estimate.relative == pytest.approx(estimate.delta / estimate.control)
    assert estimate.anytime_p > estimate.fixed_p


def test_a_clear_loss_is_worse_and_the_goal_decides_which_is_which(judge, rng):
    arms = rng.normal(10, 2, 3_000), rng.normal(11, 2, 3_000)
    (one,) = judge(replace(REVENUE, goal="decrease"), *arms).comparisons
    assert one.conclusion == "worse"
    (one,) = judge(replace(REVENUE, goal="decrease"), *arms[::-1]).comparisons
    assert one.conclusion == "better"


def test_noise_is_no_decision_and_says_how_long_to_wait(judge, rng):
    (one,) = judge(REVENUE, rng.normal(10, 9, 500), rng.normal(10, 9, 500), days=4).comparisons
    assert one.conclusion == "no decision yet"
    assert one.units_left == one.estimate.units_needed - 1_000 > 0
    assert one.days_left == pytest.approx(4 * one.units_left / 1_000, abs=0.1)
    assert f"About {one.units_left:,} more units" in one.verdict
    assert 0.05 < one.estimate.power < 0.8
    assert one.estimate.least_effect > 0.05


def test_a_narrow_interval_around_nothing_is_no_relevant_difference(judge, rng):
    (one,) = judge(REVENUE, rng.normal(10, 1, 5_000), rng.normal(10, 1, 5_000)).comparisons
    assert one.conclusion == "no relevant difference"
    assert one.units_left == 0


def test_a_wrong_split_voids_every_verdict(judge, rng):
    found = judge(REVENUE, rng.normal(10, 2, 10_400), rng.normal(12, 2, 9_600), guardrails=(Guardrail("revenue", 0.1),))
    assert found.split_alarm
    assert {one.conclusion for one in (*found.comparisons, *found.guardrails)} == {"void"}
    assert "find out why first" in found.comparisons[0].verdict


def test_fewer_than_100_units_are_too_early(judge, rng):
    (one,) = judge(REVENUE, rng.normal(10, 1, 110), rng.normal(20, 1, 99)).comparisons
    assert one.conclusion == "too early"
    assert one.estimate.delta is None
    assert "control has 110 with an outcome, this variant 99" in one.verdict


def test_outcomes_that_do_not_vary_are_too_early(judge):
    metric = Metric("converted", "proportion", "converted")
    (one,) = judge(metric, np.zeros(500), np.zeros(500)).comparisons
    assert one.conclusion == "too early"
    assert "alike" in one.verdict


def test_an_empty_log_is_too_early(judge):
    found = judge(REVENUE, np.zeros(0), np.zeros(0))
    assert found.comparisons[0].conclusion == "too early"
    assert not found.split_alarm


def test_one_outcome_a_unit_is_judged_as_proportions_and_more_by_clusters(define, rng):
    experiment = define()
    unit = np.arange(4_000)
    variant, values = unit % 2, (rng.random(4_000) < 0.3).astype(float)
    once = report(experiment, summarise(experiment, Columns(4_000, unit, variant, {"converted": values})))
    counts = [values[variant == i].sum() for i in (1, 0)]
    assert once.comparisons[0].estimate.fixed_p == pytest.approx(proportions_ztest(counts, [2_000, 2_000])[1])
    tripled = Columns(4_000, np.tile(unit, 3), np.tile(variant, 3), {"converted": np.tile(values, 3)})
    thrice = report(experiment, summarise(experiment, tripled)).comparisons[0].estimate
    assert thrice.fixed_p == pytest.approx(once.comparisons[0].estimate.fixed_p, rel=0.01)
    assert thrice.control_units == 2_000


def test_a_covariate_narrows_the_interval(judge, rng):
    past = rng.normal(10, 3, 4_000)
    now = past + rng.normal(0, 1, 4_000)
    arms = np.stack([now[:2_000], past[:2_000]]), np.stack([now[2_000:] + 0.3, past[2_000:]])
    sharp = judge(replace(REVENUE, covariate="past"), *arms).comparisons[0].estimate
    plain = judge(REVENUE, arms[0][0], arms[1][0]).comparisons[0].estimate
    assert sharp.variance_saved == pytest.approx(0.9, abs=0.03)
    assert sharp.fixed.high - sharp.fixed.low < 0.4 * (plain.fixed.high - plain.fixed.low)
    assert sharp.anytime.low < 0.3 < sharp.anytime.high


def test_a_ratio_and_a_quantile_are_reported(judge, rng):
    views = rng.integers(1, 9, 4_000).astype(float)
    clicks = rng.binomial(views.astype(int), 0.3).astype(float)
    ratio = Metric("click_rate", "ratio", "clicks", denominator="views")
    one = judge(ratio, np.stack([clicks[:2_000], views[:2_000]]), np.stack([clicks[2_000:], views[2_000:]]))
    assert one.comparisons[0].estimate.control == pytest.approx(clicks[:2_000].sum() / views[:2_000].sum())
    p95 = Metric("p95", "quantile", "latency_ms", quantile=0.95, goal="decrease")
    (tail,) = judge(p95, rng.exponential(10, 2_000), rng.exponential(5, 2_000)).comparisons
    assert tail.conclusion == "better"
    assert "only if this look was planned" in tail.verdict
    assert tail.estimate.anytime is None


def test_a_metric_around_zero_has_no_relative_figures(judge, rng):
    (one,) = judge(REVENUE, rng.normal(0, 1, 500), rng.normal(0, 1, 500)).comparisons
    assert one.estimate.relative is None
    assert one.estimate.units_needed is None
    assert one.estimate.anytime is not None
    assert "more units narrow it" in one.verdict.lower()


def test_p_values_are_corrected_for_all_comparisons(judge, rng):
    variants = tuple(Variant(name, "ranker@1") for name in ("control", "b", "c", "d"))
    arms = [rng.normal(10 + shift, 1, 2_000) for shift in (0, 0.15, 0, 0)]
    found = judge(REVENUE, *arms, variants=variants)
    raw = sorted(one.estimate.p for one in found.comparisons)
    assert [one.variant for one in found.comparisons] == ["b", "c", "d"]
    assert found.comparisons[0].corrected_p == pytest.approx(min(1, 3 * raw[0]))


@pytest.mark.parametrize(
    ("control", "treated", "goal", "conclusion"),
    [(10, 10, "increase", "holds"), (10, 8, "increase", "broken"), (10, 8, "decrease", "holds"),
     (10, 12, "decrease", "broken"), (10, 9, "increase", "no decision yet")],
)  # fmt: skip
def test_a_guardrail_holds_breaks_or_waits(judge, rng, control, treated, goal, conclusion):
    arms = rng.normal(control, 1, 2_000), rng.normal(treated, 1, 2_000)
    found = judge(replace(REVENUE, goal=goal), *arms, guardrails=(Guardrail("revenue", 0.1),))
    (check,) = found.guardrails
    assert check.conclusion == conclusion
    assert check.verdict.startswith(conclusion)


def test_a_guardrail_with_few_units_or_a_quantile_has_no_answer(judge, rng):
    rail = (Guardrail("revenue", 0.1),)
    arms = rng.normal(10, 1, 50), rng.normal(10, 1, 50)
    assert judge(REVENUE, *arms, guardrails=rail).guardrails[0].conclusion == "too early"
    quantile = Metric("revenue", "quantile", "revenue")
    assert judge(quantile, *arms, guardrails=rail).guardrails[0].conclusion == "no decision yet"


def test_a_report_is_json(judge, rng):
    found = judge(REVENUE, rng.normal(10, 2, 300), rng.normal(10, 2, 300), guardrails=(Guardrail("revenue", 0.1),))
    document = orjson.loads(orjson.dumps(found))
    assert document["comparisons"][0]["estimate"]["anytime"].keys() == {"low", "high"}
    assert document["variants"][0] == {"name": "control", "units": 300, "share": 0.5, "planned": 0.5}


def test_the_page_is_one_file_without_scripts_and_escapes_names(judge, rng):
    variants = (Variant("control", "ranker@1"), Variant("<b>&", "ranker@2"))
    for arms in [(rng.normal(10, 2, 300), rng.normal(10, 2, 300)), (np.zeros(0), np.zeros(0))]:
        page = report_html(judge(REVENUE, *arms, variants=variants, guardrails=(Guardrail("revenue", 0.1),)))
        assert "<b>" not in page
        assert "&lt;b&gt;&amp;" in page
        assert "<script" not in page
        assert "http" not in page
        assert ("<svg" in page) == (len(arms[0]) > 0)


def test_the_columns_that_metrics_read_are_named_once(define):
    experiment = replace(
        define(), metrics=(replace(REVENUE, covariate="past"), Metric("r", "ratio", "revenue", "views"))
    )
    assert value_names(experiment) == ["revenue", "past", "views"]


def test_what_is_measured_of_every_prediction_is_compared_without_feedback(define, rng):
    count = 2_000
    variant = np.arange(count) % 2
    values = {
        "error": (rng.random(count) < np.where(variant, 0.2, 0.02)).astype(float),
        "rejected": np.zeros(count),
        "latency_us": rng.gamma(4, np.where(variant, 90, 60)),
        "score": np.full(count, np.nan),
    }
    label = np.where(rng.random(count) < np.where(variant, 0.7, 0.4), "yes", "no").astype(object)
    columns = Columns(count, np.arange(count), variant, values, label=label)
    experiment = replace(define(), metrics=())
    found = report(experiment, summarise(experiment, columns))
    assert found.comparisons == ()
    by_name = {each.metric: each for each in found.automatic}
    assert list(by_name) == ["error", "rejected", *(f"latency_{each}" for each in ("us", "p50_us", "p95_us", "p99_us"))]
    assert by_name["error"].conclusion == by_name["latency_us"].conclusion == "worse"
    assert by_name["rejected"].conclusion == "too early"
    (answers,) = found.answers
    assert (answers.kind, answers.differs) == ("label", True)
    assert answers.distance == pytest.approx(0.3, abs=0.06)
    assert {share.label for share in answers.shares} == {"yes", "no"}
    page = report_html(found)
    assert "latency_p99_us" in page
    assert "label yes" in page


def test_scores_are_compared_as_numbers_and_only_where_both_variants_have_some(define, rng):
    variant = np.arange(1_000) % 2
    score = rng.normal(variant * 0.5, 1)
    experiment = replace(define(), metrics=())
    found = report(experiment, summarise(experiment, Columns(1_000, np.arange(1_000), variant, {"score": score})))
    (answers,) = found.answers
    assert (answers.kind, answers.differs, answers.control_answers) == ("score", True, 500)
    score[variant == 1] = np.nan
    found = report(experiment, summarise(experiment, Columns(1_000, np.arange(1_000), variant, {"score": score})))
    assert found.answers == ()
    assert found.automatic == ()
