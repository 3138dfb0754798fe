"""Are rewards lost of some variants more often than of others, or propensities wrong?"""

from __future__ import annotations

import numpy as np

from inferd.experiments.bandits.decisions import Decisions

_STAKES = 2.0 ** -np.arange(1, 8)


def imbalance_p(decisions: Decisions, floors: np.ndarray) -> float:
    """The p-value of "none is", from the weights 1 / propensity of each variant, which are 1 on average then: the
    inverse of what was won by betting on their being less, or more, with several stakes at once; corrected for the
    number of variants. ``floors`` FP64[arms] are the least propensities that were possible, which say how far a weight
    may be from 1. Of each unit the first row counts.

    Waudby-Smith and Ramdas, *Estimating means of bounded random variables by betting*, Journal of the Royal Statistical
    Society B 86, 2024: the capital is a martingale that starts at 1, whatever the propensities depend on, so the chance
    that it ever reaches 1 / p is at most p.
    """
    _, first = np.unique(decisions.unit, return_index=True)
    arm, propensity = decisions.arm[first], decisions.propensity[first]
    won = [_log_capital((arm == number) / propensity, floor) for number, floor in enumerate(floors)]
    return float(min(1.0, len(won) * np.exp(-max(won))))


def _log_capital(weight: np.ndarray, floor: float) -> float:
    """Of one variant, betting both ways. Weights lie between 0 and 1 / floor, so no stake can lose more than half."""
    least = min(floor, float((1 / weight[weight > 0]).min(initial=1.0)))
    stakes = np.concatenate([_STAKES, -_STAKES * least / max(1 - least, least)])
    capital = np.array([np.log1p(stake * (weight - 1)).sum() for stake in stakes])
    return float(np.logaddexp.reduce(capital) - np.log(len(capital)))
