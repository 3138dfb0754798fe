"""How far apart two distributions of answers are, and how far chance alone puts them, with units kept whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Distance:
    """``distance`` is between 0 (alike) and 1 (nothing in common); ``by_chance`` is what 95% of pairs stay below whose
    answers do not differ."""

    distance: float
    by_chance: float


def label_distance(labels: np.ndarray, owner: np.ndarray, treated: np.ndarray, shuffles: int, seed: int) -> Distance:
    """Total variation: the least share of answers that would have to change for both variants to answer alike.

    ``labels`` [n] of any kind that sorts, ``owner`` INT64[n] the unit of each, ``treated`` BOOL[units] which units are
    of the second variant; both variants have answers.
    """
    codes = np.unique(labels, return_inverse=True)[1]
    whole = np.bincount(codes)

    def measure(second: np.ndarray) -> float:
        of_second = np.bincount(codes, second, minlength=len(whole))
        return _half_difference(of_second, whole - of_second)

    return _by_chance(measure, owner, treated, shuffles, seed)


def score_distance(scores: np.ndarray, owner: np.ndarray, treated: np.ndarray, shuffles: int, seed: int) -> Distance:
    """Kolmogorov and Smirnov's: the largest difference, over all thresholds, of the shares of answers below it.
    Arguments as of ``label_distance``, ``scores`` FP64[n]."""
    order = np.argsort(scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)

    def measure(second: np.ndarray) -> float:
        below = np.cumsum(second[order])[last]
        total, count = below[-1], last + 1
        shares = below / total - (count - below) / (count[-1] - total)
        return float(np.abs(shares).max())

    return _by_chance(measure, owner, treated, shuffles, seed)


def _half_difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one / one.sum() - other / other.sum()).sum() / 2)


def _by_chance(
    measure: Callable[[np.ndarray], float], owner: np.ndarray, treated: np.ndarray, shuffles: int, seed: int
) -> Distance:
    """Shuffle which units are treated: a permutation test with whole units, since a unit's answers go together (Good,
    *Permutation, Parametric and Bootstrap Tests of Hypotheses*, 2005, chapter 3)."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(shuffles):
        second = rng.permutation(treated)[owner].astype(np.float64)
        if 0 < second.sum() < len(second):
            found.append(measure(second))
    by_chance = float(np.quantile(found, _LEVEL)) if found else 1.0
    return Distance(measure(treated[owner].astype(np.float64)), by_chance)
