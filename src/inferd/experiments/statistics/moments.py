"""Sufficient statistics of one variant: all that its means, variances and covariances need, and they add up."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations_with_replacement

import numpy as np

from inferd.experiments.statistics.exact import exact_dot, exact_sum


@dataclass(frozen=True, slots=True)
class Arm:
    """What the estimators read: the number of units, the mean of each column FP64[..., k] and their sample covariance
    FP64[..., k, k]. The leading dimensions, if any, are repetitions: runs and looks of a simulation."""

    count: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, sums and sums of products over units, held as fractions.

    Adding the moments of disjoint sets of units, in any order and grouping, gives the very moments of all of them:
    equal as numbers, not up to rounding. Rounding happens once, in ``arm``.
    """

    count: int
    sums: tuple[Fraction, ...]
    products: tuple[Fraction, ...]

    @staticmethod
    def of(values: np.ndarray) -> Moments:
        """The moments of finite FP64[units, k]."""
        columns = list(np.asarray(values, np.float64).T)
        pairs = combinations_with_replacement(columns, 2)
        return Moments(len(values), tuple(map(exact_sum, columns)), tuple(exact_dot(a, b) for a, b in pairs))

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count,
            tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)),
            tuple(a + b for a, b in zip(self.products, other.products, strict=True)),
        )

    def arm(self) -> Arm:
        """Means and covariances as doubles; not a number where there are too few units for them."""
        k, n = len(self.sums), self.count
        mean = np.array([float(total / n) if n else np.nan for total in self.sums])
        covariance = np.full((k, k), np.nan)
        for (i, j), product in zip(combinations_with_replacement(range(k), 2), self.products, strict=True):
            if n > 1:
                covariance[i, j] = covariance[j, i] = float((product - self.sums[i] * self.sums[j] / n) / (n - 1))
        return Arm(np.array(n), mean, covariance)


def arm_of_gram(gram: np.ndarray) -> Arm:
    """The arm of FP64[..., k + 1, k + 1], sums of products of the columns (1, column 1, ..., column k)."""
    count = gram[..., 0, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = gram[..., 0, 1:] / count[..., None]
        centred = gram[..., 1:, 1:] - count[..., None, None] * mean[..., :, None] * mean[..., None, :]
        return Arm(count, mean, centred / (count - 1)[..., None, None])
