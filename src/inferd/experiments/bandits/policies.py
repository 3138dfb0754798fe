"""Which variant a bandit would choose, as chances: pure functions of what the variants earned so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from inferd.experiments.assignment import BUCKETS
from inferd.experiments.bandits.rewards import Rewards

Preference = Callable[[Rewards], np.ndarray]
"""The chances FP64[..., arms] with which a policy would choose each variant, none of which lacks rewards."""
LEAST_REWARDS = 5
"""Of each variant, before any policy may prefer one: the Gaussian posterior needs four."""
_POINTS, _REACH = 2000, 10.0


def greedy(rewards: Rewards) -> np.ndarray:
    """The variant of the highest average; with the share that explores this is the epsilon-greedy policy (Sutton and
    Barto, *Reinforcement Learning*, 2.2)."""
    return best(rewards.mean)


def ucb1(rewards: Rewards) -> np.ndarray:
    """The variant of the highest upper confidence bound. Rewards lie between 0 and 1. Auer, Cesa-Bianchi and Fischer,
    *Finite-time Analysis of the Multiarmed Bandit Problem*, Machine Learning 47, 2002."""
    rounds = np.maximum(rewards.count.sum(axis=-1, keepdims=True), 1.0)
    return best(rewards.mean + np.sqrt(2 * np.log(rounds) / np.maximum(rewards.count, 1.0)))


def thompson_beta(rewards: Rewards) -> np.ndarray:
    """The chance that a variant is the best one, of rewards 0 or 1: the posteriors are Beta(1 + ones, 1 + zeros).

    Thompson, *Biometrika* 25, 1933: choosing by these chances is drawing from the posteriors once a request.
    """
    ones, zeros = 1 + rewards.total, 1 + rewards.count - rewards.total
    sum_ = ones + zeros
    deviation = np.sqrt(ones * zeros / (sum_ + 1)) / sum_
    value = np.clip(_grid(ones / sum_, deviation), 0.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        density = (ones - 1)[..., None] * np.log(value) + (zeros - 1)[..., None] * np.log1p(-value)
    return _chance_best(np.where((value > 0) & (value < 1), density, -np.inf))


def thompson_gaussian(rewards: Rewards) -> np.ndarray:
    """The chance that a variant is the best one, of normal rewards of unknown variances: the posterior of a mean is
    Student's t with n - 2 degrees of freedom and the scale sqrt(spread / (n (n - 2))).

    Honda and Takemura, *Optimality of Thompson Sampling for Gaussian Bandits Depends on Priors*, AISTATS 2014, alpha =
    -1/2, one of the priors under which the regret is of the least order.
    """
    freedom = np.maximum(rewards.count - 2, 1.0)
    scale = np.sqrt(rewards.spread / (np.maximum(rewards.count, 1.0) * freedom))
    # Rewards that are all alike say where the mean is as surely as the widest of the others' grids can tell.
    scale = np.maximum(scale, np.maximum(1e-3 * scale.max(axis=-1, keepdims=True), 1e-12))
    standard = (_grid(rewards.mean, scale) - rewards.mean[..., None]) / scale[..., None]
    return _chance_best(-(freedom + 1)[..., None] / 2 * np.log1p(standard**2 / freedom[..., None]))


def explored(preferred: np.ndarray, weights: np.ndarray, explore: float) -> np.ndarray:
    """``preferred`` FP64[..., arms] but for the share ``explore`` of all requests, which go by ``weights`` FP64[arms]:
    no variant is ever chosen less often than by that part of its weight."""
    value: np.ndarray = explore * weights + (1 - explore) * preferred
    return value


def best(score: np.ndarray) -> np.ndarray:
    """All of the chance for the highest score, FP64[..., arms]; those that are equal share it."""
    top = score == score.max(axis=-1, keepdims=True)
    value: np.ndarray = top / top.sum(axis=-1, keepdims=True)
    return value


def dealt(chances: Sequence[float] | np.ndarray) -> tuple[int, ...]:
    """``chances`` in whole buckets, which are all that is ever drawn: as near as possible, at least one for each
    (largest remainder). So a chance that is logged is exact."""
    exact = np.asarray(chances, np.float64) * BUCKETS
    buckets = np.floor(exact)
    short = BUCKETS - int(buckets.sum())
    buckets[np.argsort(buckets - exact, kind="stable")[:short]] += 1
    for empty in np.flatnonzero(buckets == 0):
        buckets[buckets.argmax()] -= 1
        buckets[empty] = 1
    return tuple(int(each) for each in buckets)


def _grid(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """FP64[..., 1, points]: values over the whole width of all the posteriors, evenly."""
    low = (mean - _REACH * deviation).min(axis=-1)[..., None, None]
    high = (mean + _REACH * deviation).max(axis=-1)[..., None, None]
    value: np.ndarray = low + (high - low) * (np.arange(_POINTS) + 0.5) / _POINTS
    return value


def _chance_best(log_density: np.ndarray) -> np.ndarray:
    """The chance that each of independent quantities is the largest one: its density times the distribution functions
    of the others, summed over the grid on which FP64[..., arms, points] are given, up to a constant for each."""
    density = np.exp(log_density - log_density.max(axis=-1, keepdims=True))
    density /= density.sum(axis=-1, keepdims=True)
    below = np.cumsum(density, axis=-1) - density / 2
    arms = range(density.shape[-2])
    others = (np.delete(below, arm, axis=-2).prod(axis=-2) for arm in arms)
    chance = np.stack([(density[..., arm, :] * each).sum(axis=-1) for arm, each in zip(arms, others, strict=True)], -1)
    value: np.ndarray = chance / chance.sum(axis=-1, keepdims=True)
    return value
