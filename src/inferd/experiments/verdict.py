"""Verdicts in plain words, each from figures that stay valid however often one looks."""

from __future__ import annotations

from typing import Literal, NamedTuple

from inferd.experiments.comparison import Estimate
from inferd.experiments.definition import Experiment, Metric
from inferd.experiments.statistics.sequential import MIN_UNITS

Conclusion = Literal[
    "void", "too early", "better", "worse", "no relevant difference", "no decision yet", "holds", "broken"
]


class Verdict(NamedTuple):
    """``conclusion`` for programs, ``verdict`` for people; the first is the second's beginning."""

    conclusion: Conclusion
    verdict: str


class Remainder(NamedTuple):
    """What is left to wait for; ``None`` where nobody knows."""

    units: int | None
    days: float | None


def metric_verdict(
    experiment: Experiment,
    metric: Metric,
    variant: str,
    found: Estimate,
    p: float | None,
    left: Remainder,
    alarm_p: float | None,
) -> Verdict:
    """What to conclude from ``found`` for ``variant``. ``p`` is corrected; ``alarm_p`` is that of a wrong split."""
    if alarm_p is not None:
        return void(alarm_p)
    if p is None or found.delta is None:
        return _too_early(found)
    if p <= experiment.analysis.alpha and found.delta != 0:
        return _decided(metric, variant, found, p)
    relative, effect = found.relative_anytime, metric.min_effect
    if effect and relative and -effect < relative.low and relative.high < effect:
        words = f"whatever the difference is, it is smaller than the {percent(effect)} that would matter."
        return Verdict("no relevant difference", f"no relevant difference: {words}")
    return Verdict("no decision yet", f"no decision yet: {_range(found)}. {_wait(metric, found, left)}")


def void(alarm_p: float) -> Verdict:
    """The verdict where the split is wrong, with p ``alarm_p``."""
    words = (
        "the variants are not of the planned sizes, so who was counted may explain any difference; find out why first."
    )
    return Verdict("void", f"void (p = {alarm_p:.2g}): {words}")


def _too_early(found: Estimate) -> Verdict:
    counts = f"control has {found.control_units:,} with an outcome, this variant {found.treated_units:,}"
    if min(found.control_units, found.treated_units) < MIN_UNITS:
        return Verdict("too early", f"too early: it takes {MIN_UNITS} units in each variant; {counts}.")
    return Verdict("too early", "too early: all outcomes are alike so far, so nothing says how much they vary.")


def _decided(metric: Metric, variant: str, found: Estimate, p: float) -> Verdict:
    up = (found.delta or 0) > 0
    conclusion: Conclusion = "better" if up == (metric.goal == "increase") else "worse"
    size = f"by {percent(abs(found.relative))}" if found.relative is not None else f"by {abs(found.delta or 0):.4g}"
    when = "true whenever you look" if found.anytime else "true only if this look was planned before the data came"
    return Verdict(
        conclusion, f"{conclusion}: {variant} is {'higher' if up else 'lower'} {size} (p = {p:.2g}), {when}."
    )


def _range(found: Estimate) -> str:
    """Where the difference may be."""
    if relative := found.relative_anytime or found.relative_fixed:
        return f"the difference may be anything from {relative.low:+.2%} to {relative.high:+.2%}"
    ends = found.anytime or found.fixed
    return f"the difference may be anything from {ends.low:+.4g} to {ends.high:+.4g}" if ends else ""


def _wait(metric: Metric, found: Estimate, left: Remainder) -> str:
    """How long it may still take."""
    if found.units_needed is None or left.units is None or metric.min_effect is None:
        if found.least_effect is None:
            return "More units narrow it."
        return f"A planned look at this many units would find a change of {percent(found.least_effect)}."
    if left.units == 0:
        return f"There are enough units to have found a change of {percent(metric.min_effect)} if there were one."
    days = "" if left.days is None else f", {left.days:,.1f} days at this pace,"
    return f"About {left.units:,} more units{days} would show a change of {percent(metric.min_effect)}."


def percent(share: float) -> str:
    """5 % as 5%, not as 5.00%."""
    return f"{100 * share:.3g}%"
