"""The difference between two variants and its fixed-horizon interval: means, ratios, proportions, with CUPED.

Units carry three columns: numerator, denominator and covariate. A metric is the ratio of the first two's sums, so one
estimator serves a plain mean (denominator 1), outcomes clustered by unit (denominator: the unit's outcomes) and true
ratios.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from inferd.experiments.statistics.library import scipy
from inferd.experiments.statistics.moments import Arm

Interval = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True)
class Difference:
    """``delta`` = treated - control, its standard error, and the degrees of freedom of that error; arrays where the
    arms are."""

    control: np.ndarray
    delta: np.ndarray
    se: np.ndarray
    freedom: np.ndarray
    units: np.ndarray


def ratio(arm: Arm) -> np.ndarray:
    """The metric of one variant: mean numerator over mean denominator."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value: np.ndarray = arm.mean[..., 0] / arm.mean[..., 1]
    return value


def cuped_theta(arms: Sequence[Arm]) -> np.ndarray:
    """The coefficient of the covariate that leaves the least variance: covariance of the metric and the covariate over
    variance of the covariate, both pooled within the variants; 0 where the covariate does not vary.

    Deng, Xu, Kohavi and Walker, *Improving the Sensitivity of Online Controlled Experiments by Utilizing
    Pre-Experiment Data*, WSDM 2013; appendix B for ratios.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        shared = sum(((arm.count - 1) * (_gradient(arm) * arm.covariance[..., :, 2]).sum(-1)) for arm in arms)
        own = np.asarray(sum((arm.count - 1) * arm.covariance[..., 2, 2] for arm in arms))
        return np.where(own > 0, shared / own, 0.0)


def difference(control: Arm, treated: Arm, theta: np.ndarray | float = 0.0) -> Difference:
    """Treated minus control, adjusted by ``theta`` times the difference of the covariate.

    The variance is the delta method's (Deng, Knoblich and Lu, *Applying the Delta Method in Metric Analytics*, KDD
    2018), with the unit as the independent observation: for several outcomes of one unit that is the cluster-robust
    variance. Degrees of freedom: Welch, *Biometrika* 34, 1947.
    """
    values, variances = zip(*(_adjusted(arm, theta) for arm in (control, treated)), strict=True)
    freedom = _freedom(control, treated, *variances)
    error = np.sqrt(variances[0] + variances[1])
    return Difference(ratio(control), values[1] - values[0], error, freedom, control.count + treated.count)


def excess(arm: Arm, value: float) -> Difference:
    """The metric of one variant less a fixed ``value``; the variance as in ``difference``."""
    observed, variance = _adjusted(arm, 0.0)
    return Difference(np.asarray(value), observed - value, np.sqrt(variance), arm.count - 1, arm.count)


def relative_difference(control: Arm, treated: Arm, theta: np.ndarray | float = 0.0) -> Difference:
    """``difference`` over the control's metric, by the delta method for the ratio of the two (the same paper): the
    control's error counts twice, once in the difference and once in what it is divided by."""
    effect = difference(control, treated, theta)
    whole, reduced = _gradient(control), _gradient(control, theta)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = effect.delta / effect.control
        own = _form(whole, control, whole)
        shared = _form(whole, control, reduced)
        variance = (effect.se**2 + relative**2 * own + 2 * relative * shared) / effect.control**2
    return replace(effect, delta=relative, se=np.sqrt(np.maximum(variance, 0.0)))


def welch_interval(effect: Difference, alpha: float) -> Interval:
    """The interval that covers the true difference in 1 - alpha of experiments, for a look planned in advance."""
    reach = scipy("special").stdtrit(effect.freedom, 1 - alpha / 2) * effect.se
    return effect.delta - reach, effect.delta + reach


def welch_p(effect: Difference) -> np.ndarray:
    """Two-sided p-value of no difference (Welch's t-test)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value: np.ndarray = 2 * scipy("special").stdtr(effect.freedom, -np.abs(effect.delta / effect.se))
    return value


def proportion_interval(control: Arm, treated: Arm, alpha: float) -> Interval:
    """Interval of the difference of two proportions from their Wilson intervals: Newcombe, *Statistics in Medicine* 17,
    1998, method 10. It keeps its coverage near 0 and 1, where Welch's does not."""
    z = scipy("special").ndtri(1 - alpha / 2)
    p, q = treated.mean[..., 0], control.mean[..., 0]
    (p_low, p_high), (q_low, q_high) = _wilson(p, treated.count, z), _wilson(q, control.count, z)
    low, high = np.hypot(p - p_low, q_high - q), np.hypot(p_high - p, q - q_low)
    return p - q - low, p - q + high


def proportion_p(control: Arm, treated: Arm) -> np.ndarray:
    """Two-sided p-value of equal proportions: the score test, which pools them under the hypothesis (Fleiss,
    *Statistical Methods for Rates and Proportions*, chapter 2)."""
    p, q, n, m = treated.mean[..., 0], control.mean[..., 0], treated.count, control.count
    pooled = (p * n + q * m) / (n + m)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.abs(p - q) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    value: np.ndarray = 2 * scipy("special").ndtr(-z)
    return value


def _wilson(p: np.ndarray, n: np.ndarray, z: float) -> Interval:
    """Wilson, *Journal of the American Statistical Association* 22, 1927."""
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - reach, middle + reach


def _gradient(arm: Arm, theta: np.ndarray | float = 0.0) -> np.ndarray:
    """Derivatives, by the means of numerator, denominator and covariate, of the ratio less ``theta`` times the
    covariate."""
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / arm.mean[..., 1]
        return np.stack([inverse, -ratio(arm) * inverse, np.broadcast_to(-np.asarray(theta), inverse.shape)], axis=-1)


def _form(left: np.ndarray, arm: Arm, right: np.ndarray) -> np.ndarray:
    """The covariance of two estimates with these gradients, from one arm's means."""
    value: np.ndarray = np.einsum("...i,...ij,...j->...", left, arm.covariance, right) / arm.count
    return value


def _freedom(control: Arm, treated: Arm, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Welch's degrees of freedom of the sum of two variances."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value: np.ndarray = (own + other) ** 2 / (own**2 / (control.count - 1) + other**2 / (treated.count - 1))
    return value


def _adjusted(arm: Arm, theta: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """The ratio less ``theta`` times the mean covariate, and its variance."""
    gradient = _gradient(arm, theta)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = _form(gradient, arm, gradient)
    return ratio(arm) - theta * arm.mean[..., 2], np.maximum(variance, 0.0)
