"""LinUCB: which variant to choose by what is known of a request, from what was earned on requests like it.

Li, Chu, Langford and Schapire, *A Contextual-Bandit Approach to Personalized News Article Recommendation*, WWW 2010,
algorithm 1 (disjoint linear models). Contexts are taken in standard deviations from their mean and the width in those
of the rewards, so that neither depends on units of measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inferd.experiments.bandits.decisions import Decisions

_Row = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Linear:
    """``mean`` and ``scale`` of each of k contexts; of each variant the coefficients ``theta`` [arms][1 + k], the first
    of a constant, and ``inverse`` [arms][1 + k][1 + k], the inverse of A; and the ``width`` of the confidence bound, in
    rewards. All plain numbers, which is what a database keeps."""

    mean: _Row
    scale: _Row
    theta: tuple[_Row, ...]
    inverse: tuple[tuple[_Row, ...], ...]
    width: float


class Scorer:
    """A ``Linear`` made ready to score. Hot where a model has such an experiment."""

    __slots__ = ("_inverse", "_mean", "_scale", "_theta", "_width")

    def __init__(self, linear: Linear) -> None:
        self._mean, self._scale = np.array(linear.mean), np.array(linear.scale)
        self._theta, self._inverse = np.array(linear.theta), np.array(linear.inverse)
        self._width = linear.width

    def scores(self, context: np.ndarray) -> np.ndarray:
        """Upper confidence bounds FP64[rows, arms] at contexts FP64[rows, k], all of them known."""
        standard = np.empty((len(context), 1 + len(self._mean)))
        standard[:, 0] = 1.0
        standard[:, 1:] = (context - self._mean) / self._scale
        doubt = (standard @ self._inverse * standard).sum(axis=2).T
        found: np.ndarray = standard @ self._theta.T + self._width * np.sqrt(doubt)
        return found


def fit(decisions: Decisions, reward: np.ndarray, arms: int, width: float) -> Linear:
    """What rewards FP64[rows], more being better, on rows whose contexts are known teach of each variant."""
    context = decisions.context
    mean, deviation = context.mean(axis=0), context.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    standard = np.column_stack([np.ones(len(context)), (context - mean) / scale])
    theta, inverse = [], []
    for arm in range(arms):
        own = decisions.arm == arm
        a = np.eye(standard.shape[1]) + standard[own].T @ standard[own]
        inverse.append(np.linalg.inv(a))
        theta.append(inverse[-1] @ (reward[own] @ standard[own]))
    return Linear(
        tuple(mean.tolist()),
        tuple(scale.tolist()),
        tuple(tuple(row.tolist()) for row in theta),
        tuple(tuple(tuple(row) for row in each.tolist()) for each in inverse),
        width * float(reward.std()),
    )
