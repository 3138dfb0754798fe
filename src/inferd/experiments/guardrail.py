"""Whether each variant is inside the guardrails: surely, surely not, or neither; true however often one looks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from inferd.experiments.automatic import measured
from inferd.experiments.comparison import Interval, keeps
from inferd.experiments.definition import Analysis, Experiment, Guardrail, Metric
from inferd.experiments.statistics.effect import excess
from inferd.experiments.statistics.limit import above_p, below_p
from inferd.experiments.statistics.moments import Moments
from inferd.experiments.statistics.quantile import Outcomes
from inferd.experiments.statistics.sequential import MIN_UNITS, anytime_p, mixture
from inferd.experiments.summary import Summary
from inferd.experiments.verdict import Conclusion, Verdict, percent, void


@dataclass(frozen=True, slots=True)
class GuardrailCheck:
    """One guardrail of one variant. ``observed`` is its metric; ``room``, in units of the metric, is how far it is
    inside the margin, at any time."""

    metric: str
    variant: str
    margin: float | None
    limit: float | None
    action: str
    observed: float | None
    room: Interval | None
    conclusion: Conclusion
    verdict: str


def check_guardrails(experiment: Experiment, summary: Summary, alarm_p: float | None) -> tuple[GuardrailCheck, ...]:
    """Every guardrail of every variant but control; ``alarm_p`` is that of a wrong split."""
    metrics = {metric.name: metric for metric in measured(experiment)}
    pairs = product(experiment.guardrails, range(1, len(experiment.variants)))
    return tuple(_check(experiment, summary, rail, metrics[rail.metric], arm, alarm_p) for rail, arm in pairs)


def _check(
    experiment: Experiment, summary: Summary, rail: Guardrail, metric: Metric, arm: int, alarm_p: float | None
) -> GuardrailCheck:
    name, room = experiment.variants[arm].name, None
    if rail.limit is not None:
        # A limit does not compare, so it holds for those who were counted, whatever the split.
        observed, verdict = _limit(rail.limit, metric, name, summary, arm, experiment.analysis)
    else:
        moments = summary.moments.get(metric.name)
        observed = _observed(moments[arm]) if moments else None
        if moments and rail.margin is not None:
            room = keeps(rail.margin, metric.goal, moments[0], moments[arm], experiment.analysis)
        verdict = void(alarm_p) if alarm_p is not None else _margin(rail, metric, name, room)
    return GuardrailCheck(rail.metric, name, rail.margin, rail.limit, rail.action, observed, room, *verdict)


def _margin(rail: Guardrail, metric: Metric, variant: str, room: Interval | None) -> Verdict:
    """Whether ``variant`` is surely inside the margin, surely outside, or neither."""
    limit = f"more than {percent(rail.margin or 0.0)} {'below' if metric.goal == 'increase' else 'above'} control"
    if metric.kind == "quantile":
        return Verdict("no decision yet", "no decision yet: quantiles have no interval that is valid at any time.")
    if room is None:
        return Verdict("too early", f"too early: it takes {MIN_UNITS} units in each variant and outcomes that vary.")
    if room.low > 0:
        return Verdict("holds", f"holds: {variant} is not {limit}.")
    if room.high < 0:
        return Verdict("broken", f"broken: {variant} is {limit}.")
    return Verdict("no decision yet", f"no decision yet: {variant} may or may not be {limit}.")


def _limit(
    limit: float, metric: Metric, variant: str, summary: Summary, arm: int, analysis: Analysis
) -> tuple[float | None, Verdict]:
    """What was observed, and whether it is surely on the right side of ``limit``, surely on the wrong one, or neither.

    A limit guards against harm and asks nothing of units: each outcome counts by itself, so that a few units with many
    predictions are enough.
    """
    side = "below" if metric.goal == "increase" else "above"
    if metric.kind == "quantile":
        observed, broken_p, holds_p = _quantile_limit(limit, metric, summary.outcomes[metric.name][arm])
    else:
        observed, broken_p, holds_p = _moments_limit(limit, metric, summary.moments[metric.name][arm], analysis)
    seen = "nothing was observed" if observed is None else f"{observed:.4g} observed"
    if broken_p <= analysis.alpha:
        return observed, Verdict("broken", f"broken: {variant} is {side} {limit:g} ({seen}, p = {broken_p:.2g}).")
    if holds_p <= analysis.alpha:
        return observed, Verdict("holds", f"holds: {variant} is not {side} {limit:g} ({seen}).")
    return observed, Verdict(
        "no decision yet", f"no decision yet: {variant} may or may not be {side} {limit:g} ({seen})."
    )


def _quantile_limit(limit: float, metric: Metric, outcomes: Outcomes) -> tuple[float | None, float, float]:
    """A quantile is beyond a limit if, and only if, too large a share of the outcomes is."""
    if not outcomes.units:
        return None, 1.0, 1.0
    worse = outcomes.values > limit if metric.goal == "decrease" else outcomes.values < limit
    allowed = 1 - metric.quantile if metric.goal == "decrease" else metric.quantile
    count, trials = float(worse.sum()), float(worse.size)
    return outcomes.quantile(metric.quantile), above_p(count, trials, allowed), below_p(count, trials, allowed)


def _moments_limit(
    limit: float, metric: Metric, moments: Moments, analysis: Analysis
) -> tuple[float | None, float, float]:
    observed = _observed(moments)
    if observed is None:
        return None, 1.0, 1.0
    if metric.kind == "proportion":
        hits, trials = float(moments.sums[0]), float(moments.sums[1])
        above, below = above_p(hits, trials, limit), below_p(hits, trials, limit)
    else:
        above, below = _sides_p(moments, limit, analysis)
    return (observed, above, below) if metric.goal == "decrease" else (observed, below, above)


def _sides_p(moments: Moments, limit: float, analysis: Analysis) -> tuple[float, float]:
    """The p-values of a mean or a ratio that is not above ``limit``, and of one that is not below."""
    effect = excess(moments.arm(), limit)
    if moments.count < MIN_UNITS or not effect.se > 0:
        return 1.0, 1.0
    p = float(anytime_p(effect, mixture(analysis.tuning_units, analysis.alpha)))
    return (p, 1.0) if effect.delta > 0 else (1.0, p)


def _observed(moments: Moments) -> float | None:
    return float(moments.sums[0] / moments.sums[1]) if moments.sums[1] else None
