"""Quantiles and their difference by the bootstrap, with units resampled whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The values FP64[n] of one variant and, INT64[n], which of its ``units`` each belongs to."""

    values: np.ndarray
    owner: np.ndarray
    units: int

    def __add__(self, other: Outcomes) -> Outcomes:
        """Those of disjoint sets of units together."""
        owner = np.concatenate([self.owner, other.owner + self.units])
        return Outcomes(np.concatenate([self.values, other.values]), owner, self.units + other.units)

    def quantile(self, q: float) -> float:
        """The smallest value that at least the share ``q`` of the values does not exceed."""
        return float(np.quantile(self.values, q, method="inverted_cdf"))


@dataclass(frozen=True, slots=True)
class QuantileDifference:
    """Difference of two quantiles, its standard error, percentile interval and two-sided p-value."""

    delta: float
    se: float
    interval: tuple[float, float]
    p: float


def quantile_difference(
    control: Outcomes, treated: Outcomes, q: float, alpha: float, resamples: int, seed: int
) -> QuantileDifference:
    """The percentile bootstrap: Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13; clusters
    drawn whole: Davison and Hinkley, *Bootstrap Methods and their Application*, 1997, section 3.8.

    The p-value is twice the smaller share of resamples on either side of 0, so it agrees with the interval and is never
    below 2 / (resamples + 1).
    """
    rng = np.random.default_rng(seed)
    deltas = _resampled(treated, q, resamples, rng) - _resampled(control, q, resamples, rng)
    low, high = np.quantile(deltas, [alpha / 2, 1 - alpha / 2])
    tail = min((deltas <= 0).sum(), (deltas >= 0).sum())
    p = min(1.0, 2 * (int(tail) + 1) / (resamples + 1))
    delta = treated.quantile(q) - control.quantile(q)
    return QuantileDifference(delta, float(deltas.std(ddof=1)), (float(low), float(high)), p)


def _resampled(outcomes: Outcomes, q: float, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """The quantile of each resample. The values are sorted once: a resample only changes how often each one counts."""
    order = np.argsort(outcomes.values, kind="stable")
    values, owner = outcomes.values[order], outcomes.owner[order]
    found = np.empty(resamples)
    for i in range(resamples):
        drawn = np.bincount(rng.integers(0, outcomes.units, outcomes.units), minlength=outcomes.units)
        reached = np.cumsum(drawn[owner])
        found[i] = values[np.searchsorted(reached, q * reached[-1])]
    return found
