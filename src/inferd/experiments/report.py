"""What an experiment's data say, as one plain value: counts, estimates, guardrails and a verdict for each."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil

from inferd.experiments.comparison import Estimate, Interval, estimate, estimate_quantile, keeps
from inferd.experiments.definition import Experiment, Guardrail, Metric
from inferd.experiments.statistics.correction import corrected
from inferd.experiments.statistics.imbalance import ALARM, imbalance_p
from inferd.experiments.summary import Summary
from inferd.experiments.verdict import Conclusion, Remainder, Verdict, guardrail_verdict, metric_verdict

# Below this a rate of units per day is a guess about the time of day.
_LEAST_DAYS = 0.5


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
class GuardrailCheck:
    """``room``, in units of the metric, is how far the variant is inside the margin, at any time."""

    metric: str
    variant: str
    margin: float
    room: Interval | None
    conclusion: Conclusion
    verdict: str


@dataclass(frozen=True, slots=True)
class Report:
    """``days`` of data, where rows are timed. With ``split_alarm`` the variants are not of the planned sizes, and every
    verdict is void."""

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
        _comparisons(experiment, summary, days, split_p if alarm else None),
        tuple(_guardrails(experiment, summary, split_p if alarm else None)),
    )


def _comparisons(
    experiment: Experiment, summary: Summary, days: float | None, alarm_p: float | None
) -> tuple[Comparison, ...]:
    pairs = list(product(experiment.metrics, range(1, len(experiment.variants))))
    estimates = [_estimate(experiment, summary, metric, treated) for metric, treated in pairs]
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


def _guardrails(experiment: Experiment, summary: Summary, alarm_p: float | None) -> list[GuardrailCheck]:
    metrics = {metric.name: metric for metric in experiment.metrics}
    pairs = product(experiment.guardrails, range(1, len(experiment.variants)))
    return [_guardrail(experiment, summary, rail, metrics[rail.metric], i, alarm_p) for rail, i in pairs]


def _guardrail(
    experiment: Experiment, summary: Summary, rail: Guardrail, metric: Metric, treated: int, alarm_p: float | None
) -> GuardrailCheck:
    moments = summary.moments.get(metric.name)
    room = moments and keeps(rail.margin, metric.goal, moments[0], moments[treated], experiment.analysis)
    name = experiment.variants[treated].name
    verdict = guardrail_verdict(rail, metric, name, room or None, alarm_p)
    return GuardrailCheck(rail.metric, name, rail.margin, room or None, *verdict)
