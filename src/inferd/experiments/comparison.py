"""One metric of one variant against the control: estimates, intervals, p-values and how far the data reach."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite, sqrt

import numpy as np

from inferd.experiments.definition import Analysis, Metric
from inferd.experiments.statistics.effect import (
    Difference,
    cuped_theta,
    difference,
    proportion_interval,
    proportion_p,
    ratio,
    relative_difference,
    welch_interval,
    welch_p,
)
from inferd.experiments.statistics.moments import Arm, Moments
from inferd.experiments.statistics.power import least_effect, power, units_needed_anytime
from inferd.experiments.statistics.quantile import Outcomes, quantile_difference
from inferd.experiments.statistics.sequential import MIN_UNITS, anytime_interval, anytime_p, mixture

# A relative change means something only where the control's metric is surely above 0: by this many standard errors.
SURELY = 3.0


@dataclass(frozen=True, slots=True)
class Interval:
    """Both ends; what it covers is said where it is."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """The figures of one metric and variant. ``None`` where the data cannot say.

    ``control`` and ``treated`` are the metric as observed; ``delta`` is treated - control, adjusted by the covariate if
    the metric has one, and ``relative`` is it over ``control``. ``fixed`` intervals and p hold for a look planned in
    advance, ``anytime`` ones at every look. ``variance_saved`` is the share of the variance that the covariate took
    away. ``power`` is the chance that the present data would have shown ``min_effect``, ``least_effect`` the relative
    change they would have shown with the wanted power, both at a planned look; ``units_needed``, of both variants
    together, would show ``min_effect`` at any time.
    """

    control_units: int
    treated_units: int
    control: float | None = None
    treated: float | None = None
    delta: float | None = None
    relative: float | None = None
    fixed: Interval | None = None
    fixed_p: float | None = None
    anytime: Interval | None = None
    anytime_p: float | None = None
    relative_fixed: Interval | None = None
    relative_anytime: Interval | None = None
    variance_saved: float | None = None
    power: float | None = None
    least_effect: float | None = None
    units_needed: int | None = None

    @property
    def p(self) -> float | None:
        """The p-value that decides: the anytime-valid one, where the metric has it."""
        return self.fixed_p if self.anytime_p is None else self.anytime_p


def estimate(metric: Metric, control: Moments, treated: Moments, analysis: Analysis) -> Estimate:
    """The figures of a mean, proportion or ratio."""
    arms = control.arm(), treated.arm()
    seen = Estimate(control.count, treated.count, _known(ratio(arms[0])), _known(ratio(arms[1])))
    if min(control.count, treated.count) < MIN_UNITS:
        return seen
    theta = cuped_theta(arms) if metric.covariate else np.float64(0.0)
    plain, effect = difference(*arms), difference(*arms, theta)
    if not effect.se > 0:
        return seen
    rho2 = mixture(analysis.tuning_units, analysis.alpha)
    binary = metric.kind == "proportion" and not metric.covariate and _single(control) and _single(treated)
    fixed = proportion_interval(*arms, analysis.alpha) if binary else welch_interval(effect, analysis.alpha)
    found = replace(
        seen,
        delta=float(effect.delta),
        fixed=_interval(fixed),
        fixed_p=float(proportion_p(*arms) if binary else welch_p(effect)),
        anytime=_interval(anytime_interval(effect, analysis.alpha, rho2)),
        anytime_p=float(anytime_p(effect, rho2)),
        variance_saved=float(1 - (effect.se / plain.se) ** 2) if metric.covariate else None,
    )
    if float(effect.control) <= SURELY * _control_error(control):
        return found
    return _relative(found, metric, effect, relative_difference(*arms, theta), analysis, rho2)


def estimate_quantile(metric: Metric, control: Outcomes, treated: Outcomes, analysis: Analysis) -> Estimate:
    """The figures of a quantile. The bootstrap has no anytime-valid form, so it only has those of a planned look."""
    arms = control, treated
    values = [arm.quantile(metric.quantile) if arm.units else None for arm in arms]
    seen = Estimate(control.units, treated.units, values[0], values[1])
    if min(control.units, treated.units) < MIN_UNITS:
        return seen
    effect = quantile_difference(*arms, metric.quantile, analysis.alpha, analysis.resamples, analysis.seed)
    found = replace(seen, delta=effect.delta, fixed=Interval(*effect.interval), fixed_p=effect.p)
    if not (seen.control and seen.control > 0 and effect.se > 0):
        return found
    return replace(
        found,
        relative=effect.delta / seen.control,
        relative_fixed=Interval(effect.interval[0] / seen.control, effect.interval[1] / seen.control),
        power=_power(metric, seen.control, effect.se, analysis),
        least_effect=least_effect(effect.se, analysis.alpha, analysis.power) / seen.control,
    )


def keeps(margin: float, goal: str, control: Moments, treated: Moments, analysis: Analysis) -> Interval | None:
    """The anytime-valid interval of how far the treated variant is above the worst value that the guardrail allows,
    ``control * (1 - margin)`` or, where less is better, as far below ``control * (1 + margin)``: above 0 the guardrail
    holds, below 0 it is broken. A ratio of means is judged by such a contrast, which is linear in both, after Fieller,
    *Journal of the Royal Statistical Society B* 16, 1954. ``None`` where there are too few units."""
    if min(control.count, treated.count) < MIN_UNITS:
        return None
    sign = 1.0 if goal == "increase" else -1.0
    scale = np.array([1 - sign * margin, 1.0, 1.0])
    arm = control.arm()
    worst = Arm(arm.count, arm.mean * scale, arm.covariance * np.outer(scale, scale))
    effect = difference(worst, treated.arm())
    if not effect.se > 0:
        return None
    low, high = anytime_interval(effect, analysis.alpha, mixture(analysis.tuning_units, analysis.alpha))
    ends = sorted((sign * float(low), sign * float(high)))
    return Interval(*ends)


def _relative(
    found: Estimate, metric: Metric, effect: Difference, relative: Difference, analysis: Analysis, rho2: float
) -> Estimate:
    """Add what is said in shares of the control's metric."""
    alpha, control, se = analysis.alpha, float(effect.control), float(effect.se)
    needed = None
    if metric.min_effect:
        unit_variance = se * se * float(effect.units)
        needed = units_needed_anytime(metric.min_effect * control, unit_variance, alpha, analysis.power, rho2)
    return replace(
        found,
        relative=float(relative.delta),
        relative_fixed=_interval(welch_interval(relative, alpha)),
        relative_anytime=_interval(anytime_interval(relative, alpha, rho2)),
        power=_power(metric, control, se, analysis),
        least_effect=least_effect(se, alpha, analysis.power) / control,
        units_needed=needed,
    )


def _power(metric: Metric, control: float, se: float, analysis: Analysis) -> float | None:
    return power(metric.min_effect * control, se, analysis.alpha) if metric.min_effect else None


def _single(moments: Moments) -> bool:
    """Whether each unit has one outcome, 0 or 1, so that the units' outcomes are the trials of a binomial. Feedback may
    bring others: then their sum and that of their squares differ."""
    return moments.sums[1] == moments.count == moments.products[3] and moments.sums[0] == moments.products[0]


def _control_error(control: Moments) -> float:
    """The standard error of the control's own metric: that of its difference to itself, which counts it twice."""
    arm = control.arm()
    return float(difference(arm, arm).se) / sqrt(2)


def _known(value: np.ndarray) -> float | None:
    return float(value) if isfinite(value) else None


def _interval(ends: tuple[np.ndarray, np.ndarray]) -> Interval:
    return Interval(float(ends[0]), float(ends[1]))
