"""What another policy would have earned on the same requests, from what was logged: by inverse propensities, and doubly
robust.

Each row becomes one number whose expectation, given all that came before, is the value looked for, whatever the
propensities were at that time. So the mean is unbiased while a bandit learns, and intervals for means of martingale
differences hold for it: Hall and Heyde, *Martingale Limit Theory and Its Application*, 3.2; at any time, Waudby-Smith,
Wu, Ramdas, Karampatziakis and Mineiro, *Anytime-valid off-policy inference for contextual bandits*, ACM/IMS Journal of
Data Science 1, 2024. Rows of one unit are taken together, as everywhere in the report.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inferd.experiments.bandits.decisions import Decisions
from inferd.experiments.statistics.effect import Difference, excess
from inferd.experiments.statistics.moments import Arm

_FIRST_ROWS, _BLOCKS = 20, 20
_RIDGE = 1.0
_CONSTANT_RIDGE = 1e-3


@dataclass(frozen=True, slots=True)
class Estimated:
    """Of one policy: the mean reward and its error. ``weighted`` is the inverse propensity estimate of Horvitz and
    Thompson (*Journal of the American Statistical Association* 47, 1952), ``normalised`` the same over the sum of the
    weights (Swaminathan and Joachims, *The Self-Normalized Estimator for Counterfactual Learning*, NeurIPS 2015), and
    ``robust`` the doubly robust one (Dudik, Langford and Li, *Doubly Robust Policy Evaluation and Learning*, ICML
    2011)."""

    weighted: Difference
    normalised: Difference
    robust: Difference


def estimate_policy(decisions: Decisions, value: np.ndarray, modelled: np.ndarray, target: np.ndarray) -> Estimated:
    """What a policy that chooses with the chances FP64[arms], or FP64[rows, arms] by the context, would earn. ``value``
    FP64[rows] was earned, ``modelled`` FP64[rows, arms] is what ``model_rewards`` says."""
    target = np.broadcast_to(target, modelled.shape)
    weight = target[np.arange(len(value)), decisions.arm] / decisions.propensity
    ones = np.ones(len(value))
    return Estimated(
        _mean(decisions.unit, weight * value, ones),
        _mean(decisions.unit, weight * value, weight),
        _mean(decisions.unit, _robust(decisions, value, modelled, target), ones),
    )


def estimate_contrast(
    decisions: Decisions, value: np.ndarray, modelled: np.ndarray, contrast: np.ndarray
) -> Difference:
    """By how much one policy would earn more than another, doubly robust: ``contrast`` FP64[arms] is the difference of
    their chances. Both are estimated on the same rows, so what these have in common cancels."""
    return _mean(decisions.unit, _robust(decisions, value, modelled, contrast), np.ones(len(value)))


def estimate_gain(decisions: Decisions, value: np.ndarray, modelled: np.ndarray, target: np.ndarray) -> Difference:
    """By how much what was decided earned more than a policy that chooses with the chances FP64[arms] would have."""
    return _mean(decisions.unit, value - _robust(decisions, value, modelled, target), np.ones(len(value)))


def model_rewards(decisions: Decisions, value: np.ndarray, arms: int) -> np.ndarray:
    """FP64[rows, arms]: what each variant would earn on each row, by a ridge regression on the context. A row's is
    fitted on rows of earlier blocks only, so that it depends on nothing that came later; a poor fit costs precision, it
    does not bias."""
    found = np.zeros((len(value), arms))
    context = _with_constant(decisions.context)
    penalty = np.diag([_CONSTANT_RIDGE, *[_RIDGE] * (context.shape[1] - 1)])
    gram = np.stack([penalty] * arms)
    moment = np.zeros((arms, context.shape[1]))
    for rows in _blocks(len(value)):
        found[rows] = context[rows] @ np.linalg.solve(gram, moment[..., None])[..., 0].T
        for arm in range(arms):
            own = decisions.arm[rows] == arm
            gram[arm] += context[rows][own].T @ context[rows][own]
            moment[arm] += value[rows][own] @ context[rows][own]
    return found


def _robust(decisions: Decisions, value: np.ndarray, modelled: np.ndarray, target: np.ndarray) -> np.ndarray:
    """FP64[rows]: what the model says of the target, and its error where something is known, weighed."""
    rows, target = np.arange(len(value)), np.broadcast_to(target, modelled.shape)
    weight = target[rows, decisions.arm] / decisions.propensity
    found: np.ndarray = (target * modelled).sum(axis=1) + weight * (value - modelled[rows, decisions.arm])
    return found


def _mean(unit: np.ndarray, numerator: np.ndarray, denominator: np.ndarray) -> Difference:
    """The sum of ``numerator`` over that of ``denominator``, both FP64[rows]; the unit is the independent
    observation."""
    _, owner = np.unique(unit, return_inverse=True)
    sums = np.stack([np.bincount(owner, each) for each in (numerator, denominator)])
    columns = np.vstack([sums, np.zeros(sums.shape[1])])
    covariance = np.cov(columns) if columns.shape[1] > 1 else np.full((3, 3), np.nan)
    return excess(Arm(np.array(columns.shape[1]), columns.mean(axis=1), covariance), 0.0)


def _with_constant(context: np.ndarray) -> np.ndarray:
    """FP64[rows, 1 + k]: a constant, and the context in standard deviations from its mean, 0 where it is not known."""
    known = np.where(np.isnan(context), 0.0, 1.0)
    rows = np.maximum(known.sum(axis=0), 1.0)
    centred = (np.nan_to_num(context) - np.nansum(context, axis=0) / rows) * known
    deviation = np.sqrt((centred**2).sum(axis=0) / rows)
    return np.column_stack([np.ones(len(context)), centred / np.where(deviation > 0, deviation, 1.0)])


def _blocks(rows: int) -> list[slice]:
    """Slices of ever more rows, since the model changes most at the beginning."""
    edges = np.unique(np.geomspace(min(_FIRST_ROWS, max(rows, 1)), max(rows, 1), _BLOCKS).astype(np.int64))
    return [slice(int(start), int(stop)) for start, stop in zip([0, *edges[:-1]], edges, strict=True)]
