"""What an experiment's data say, as one plain value: counts, estimates, guardrails and a verdict for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil

from inferd.experiments.answers import AnswerComparison, compare_answers
from inferd.experiments.automatic import automatic_metrics
from inferd.experiments.comparison import Estimate, estimate, estimate_quantile
from inferd.experiments.definition import Experiment, Metric
from inferd.experiments.guardrail import GuardrailCheck, check_guardrails
from inferd.experiments.shadow_report import ShadowComparison
from inferd.experiments.statistics.correction import corrected
from inferd.experiments.statistics.imbalance import ALARM, imbalance_p
from inferd.experiments.summary import Summary
from inferd.experiments.verdict import Conclusion, Remainder, Verdict, metric_verdict

# Below this a rate of units per day is a guess about the time of day.
_LEAST_DAYS = 0.5
AUTOMATIC_RESAMPLES = 200
"""Enough for an interval of a latency that nobody asked for, in a fifth of the time."""


@dataclass(frozen=True, slots=True)
class VariantCount:
    """``share`` of all units, beside the ``planned`` one."""

    name: str
    units: int
    share: float
    planned: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of one variant against the control. ``corrected_p`` is the p that decides, after the correction for
    all comparisons of the report; ``days_left`` until ``estimate.units_needed``, at the pace so far."""

    metric: str
    kind: str
    goal: str
    variant: str
    estimate: Estimate
    corrected_p: float | None
    units_left: int | None
    days_left: float | None
    conclusion: Conclusion
    verdict: str


@dataclass(frozen=True, slots=True)
class Report:
    """``days`` of data, where rows are timed. With ``split_alarm`` the variants are not of the planned sizes, and every
    verdict is void. ``automatic`` compares what is measured of every prediction, and ``answers`` what they said; their
    p-values are corrected by themselves, so that they cost the experiment's own metrics nothing. ``shadows`` tells how
    often variants disagree with control on the same request."""

    experiment: str
    model: str
    units: int
    crossed_units: int
    days: float | None
    alpha: float
    correction: str
    variants: tuple[VariantCount, ...]
    split_p: float
    split_alarm: bool
    comparisons: tuple[Comparison, ...]
    guardrails: tuple[GuardrailCheck, ...]
    automatic: tuple[Comparison, ...]
    answers: tuple[AnswerComparison, ...]
    shadows: tuple[ShadowComparison, ...] = ()


def report(experiment: Experiment, summary: Summary) -> Report:
    """Judge ``summary`` as ``experiment`` says. Raises ``MissingExtra`` where SciPy is not installed."""
    counts, shares = summary.counts, experiment.shares
    units = sum(counts)
    split_p = imbalance_p(counts, shares)
    days = (summary.span_s[1] - summary.span_s[0]) / 86_400 if summary.span_s else None
    variants = tuple(
        VariantCount(variant.name, count, count / units if units else 0.0, share)
        for variant, count, share in zip(experiment.variants, counts, shares, strict=True)
    )
    alarm = split_p < ALARM
    alarm_p = split_p if alarm else None
    return Report(
        experiment.id,
        experiment.model,
        units,
        summary.crossed,
        days,
        experiment.analysis.alpha,
        experiment.analysis.correction,
        variants,
        split_p,
        alarm,
        _comparisons(experiment, experiment.metrics, summary, days, alarm_p),
        check_guardrails(experiment, summary, alarm_p),
        _automatic(experiment, summary, days, alarm_p),
        compare_answers(experiment, summary.answers),
    )


def _automatic(
    experiment: Experiment, summary: Summary, days: float | None, alarm_p: float | None
) -> tuple[Comparison, ...]:
    """Those of which anything is known: a log need not hold them."""
    known = [
        metric
        for metric in automatic_metrics(experiment)
        if any(arm.units for arm in summary.outcomes.get(metric.name, ()))
        or any(arm.count for arm in summary.moments.get(metric.name, ()))
    ]
    analysis = replace(experiment.analysis, resamples=min(experiment.analysis.resamples, AUTOMATIC_RESAMPLES))
    return _comparisons(replace(experiment, analysis=analysis), known, summary, days, alarm_p)


def _comparisons(
    experiment: Experiment, metrics: Sequence[Metric], summary: Summary, days: float | None, alarm_p: float | None
) -> tuple[Comparison, ...]:
    pairs = list(product(metrics, range(1, len(experiment.variants))))
    estimates = [_estimate(experiment, summary, metric, treated) for metric, treated in pairs]
    return judged(experiment, pairs, estimates, days, alarm_p)


def judged(
    experiment: Experiment,
    pairs: Sequence[tuple[Metric, int]],
    estimates: Sequence[Estimate],
    days: float | None,
    alarm_p: float | None,
) -> tuple[Comparison, ...]:
    """A verdict on each estimate, of a metric and the number of a variant, all of them corrected together."""
    known = [i for i, found in enumerate(estimates) if found.p is not None]
    raised = corrected([p for found in estimates if (p := found.p) is not None], experiment.analysis.correction)
    p_values = dict(zip(known, raised, strict=True))
    comparisons = []
    for i, ((metric, treated), found) in enumerate(zip(pairs, estimates, strict=True)):
        left = _remainder(found, days)
        verdict = metric_verdict(
            experiment, metric, experiment.variants[treated].name, found, p_values.get(i), left, alarm_p
        )
        comparisons.append(
            _comparison(metric, experiment.variants[treated].name, found, p_values.get(i), left, verdict)
        )
    return tuple(comparisons)


def _comparison(
    metric: Metric, variant: str, found: Estimate, p: float | None, left: Remainder, verdict: Verdict
) -> Comparison:
    return Comparison(metric.name, metric.kind, metric.goal, variant, found, p, left.units, left.days, *verdict)


def _estimate(experiment: Experiment, summary: Summary, metric: Metric, treated: int) -> Estimate:
    if metric.kind == "quantile":
        outcomes = summary.outcomes[metric.name]
        return estimate_quantile(metric, outcomes[0], outcomes[treated], experiment.analysis)
    moments = summary.moments[metric.name]
    return estimate(metric, moments[0], moments[treated], experiment.analysis)


def _remainder(found: Estimate, days: float | None) -> Remainder:
    """Units and days until ``units_needed``."""
    if found.units_needed is None:
        return Remainder(None, None)
    so_far = found.control_units + found.treated_units
    units = max(0, found.units_needed - so_far)
    return Remainder(units, ceil(10 * units * days / so_far) / 10 if days and days >= _LEAST_DAYS else None)
