"""What a bandit learns from: how much each variant earned so far, as sufficient statistics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Rewards:
    """Number, sum and sum of squares of the rewards of each variant, FP64[..., arms]. The leading dimensions, if any,
    are repetitions: runs of a simulation. More is better."""

    count: np.ndarray
    total: np.ndarray
    squares: np.ndarray

    @staticmethod
    def of(arm: np.ndarray, reward: np.ndarray, arms: int) -> Rewards:
        """Of rewards FP64[rows], each of one variant INT64[rows]."""
        count = np.bincount(arm, minlength=arms).astype(np.float64)
        return Rewards(
            count, np.bincount(arm, reward, minlength=arms), np.bincount(arm, reward * reward, minlength=arms)
        )

    def __add__(self, other: Rewards) -> Rewards:
        return Rewards(self.count + other.count, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> np.ndarray:
        """The average reward; 0 where there is none."""
        value: np.ndarray = self.total / np.maximum(self.count, 1.0)
        return value

    @property
    def spread(self) -> np.ndarray:
        """The sum of squared distances from the mean."""
        value: np.ndarray = np.maximum(self.squares - self.total * self.mean, 0.0)
        return value
