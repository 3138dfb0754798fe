"""What is said of shadows, from what is known of them."""

from dataclasses import asdict, replace

import numpy as np
import orjson
import pytest
from pydantic import TypeAdapter
from statsmodels.stats.proportion import proportion_confint

from inferd.cli.shadow_report import print_shadow_report
from inferd.core.difference import Agreement
from inferd.experiments.definition import Shadow, Variant
from inferd.experiments.promotion import why_not
from inferd.experiments.report_html import report_html
from inferd.experiments.shadow_report import ShadowRecord, ShadowReport, shadow_report

NOTHING = np.array([])
RECORD = ShadowRecord(
    {"ok": 1000, "internal": 3, "deadline_exceeded": 1, "shed": 20, "unavailable": 5},
    983,
    Agreement(995, 1000),
    Agreement(900, 1000),
    np.linspace(0, 1, 1001),
    np.full(1000, 100.0),
    np.linspace(100, 200, 1000),
    [{"prediction_id": "p", "at_ms": 1, "request_id": "<r>", "reason": "y & z", "rows": [{"row": 0}]}] * 4,
)


@pytest.fixture
def experiment(define):
    return replace(define(), mode="shadow", metrics=(), shadow=Shadow(sample=0.25, top_k=3))


@pytest.fixture
def found(experiment):
    return shadow_report(experiment, {"candidate": RECORD})


def test_the_share_of_equal_answers_has_both_intervals(found):
    (one,) = found.shadows
    assert (one.variant, one.compared, one.equal, one.equal_share) == ("candidate", 1000, 983, 0.983)
    assert (one.fixed.low, one.fixed.high) == pytest.approx(proportion_confint(983, 1000, method="wilson"))
    assert one.anytime.low < one.fixed.low < one.fixed.high < one.anytime.high
    assert one.verdict == (
        "98.3% of 1,000 answers equal control's; whenever you look, 96.7% to 99.5%; 4 of 1,004 failed."
    )


def test_failures_and_what_was_not_run_are_told_apart(found):
    (one,) = found.shadows
    assert (one.failed, one.shed, one.unavailable) == ({"internal": 3, "deadline_exceeded": 1}, 20, 5)


def test_rows_differences_and_times_are_summed_up(found):
    (one,) = found.shadows
    assert (one.labels.share, one.top_k.share, one.k) == (0.995, 0.9, 3)
    assert asdict(one.largest) == pytest.approx({"p50": 0.5, "p95": 0.95, "p99": 0.99})
    assert asdict(one.control_us) == {"p50": 100, "p95": 100, "p99": 100}
    assert one.slower_us.p50 == pytest.approx(50, abs=0.1)
    assert one.median_slower_us.low < 50 < one.median_slower_us.high


def test_an_answer_infinitely_far_off_has_no_number(experiment):
    record = replace(RECORD, largest=np.array([0.0, 0.5, np.inf]))
    (one,) = shadow_report(experiment, {"candidate": record}).shadows
    assert asdict(one.largest) == {"p50": 0.5, "p95": None, "p99": None}


def test_a_shadow_that_only_failed_has_nothing_compared(experiment):
    record = ShadowRecord({"internal": 7}, 0, Agreement(), Agreement(), NOTHING, NOTHING, NOTHING, [])
    (one,) = shadow_report(experiment, {"candidate": record}).shadows
    assert one.verdict == "nothing was compared; 7 of 7 failed."
    nothing = (one.equal_share, one.fixed, one.anytime, one.labels, one.largest, one.slower_us, one.median_slower_us)
    assert set(nothing) == {None}


def test_variants_come_in_their_order_and_those_without_a_word_are_left_out(experiment):
    variants = (*experiment.variants, Variant("third", "ranker@3"), Variant("fourth", "ranker@4"))
    report = shadow_report(replace(experiment, variants=variants), {"fourth": RECORD, "candidate": RECORD})
    assert [each.variant for each in report.shadows] == ["candidate", "fourth"]
    assert shadow_report(experiment, {}).shadows == ()


def test_a_report_is_read_back_from_its_json(found):
    plain = orjson.loads(orjson.dumps(asdict(found)))
    assert TypeAdapter(ShadowReport).validate_python(plain) == found


def test_the_page_tells_it_all_and_escapes_what_callers_sent(found):
    page = report_html(found)
    assert "candidate beside control, request by request" in page
    assert "25% of the requests to ranker" in page
    assert "96.7% to 99.5%" in page
    assert "4 of 4 kept disagreements" in page
    assert "&lt;r&gt;" in page
    assert "<r>" not in page


def test_the_command_prints_it_all(found, capsys):
    print_shadow_report(found)
    out = capsys.readouterr().out
    assert out.startswith("ranker-2: 25% of the requests to ranker\n")
    for line in (
        "  983 of 1,000 compared are equal within tolerance",
        "  anytime-valid 95% interval 96.70% to 99.47%",
        "  labels agree in 99.50% of 1,000 rows",
        "  the 3 classes ranked highest agree in 90.00% of 1,000 rows",
        "  3 failed: internal",
        "  not run: 20 shed for lack of room, 5 without a ready version",
        "  largest difference: p50 0.5, p95 0.95, p99 0.99",
        "  request <r>: y & z",
        "  1 more disagreements were kept: --json prints them all",
    ):
        assert f"{line}\n" in out


def test_nothing_yet_is_said(experiment, capsys):
    report = shadow_report(experiment, {})
    print_shadow_report(report)
    assert "nothing has run yet" in capsys.readouterr().out
    assert "Nothing has run yet" in report_html(report)


def test_a_shadow_is_no_reason_to_promote_anything(found):
    assert "nobody has seen what a shadow answers" in why_not(found, "candidate", is_control=False)
    assert why_not(found, "control", is_control=True) == ""
