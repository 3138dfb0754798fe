"""How likely an effect would have been found, and how many units finding it takes."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

from inferd.experiments.statistics.library import scipy
from inferd.experiments.statistics.sequential import critical

MAX_UNITS = 10**12


def power(effect: float, se: float, alpha: float) -> float:
    """The chance that a two-sided test at ``alpha`` finds a true difference of ``effect`` at this standard error
    (normal approximation; Cohen, *Statistical Power Analysis for the Behavioral Sciences*, chapter 2)."""
    special = scipy("special")
    z = special.ndtri(1 - alpha / 2)
    return float(special.ndtr(effect / se - z) + special.ndtr(-effect / se - z))


def least_effect(se: float, alpha: float, wanted: float) -> float:
    """The least true difference that a look planned in advance finds with power ``wanted`` at this standard error."""
    special = scipy("special")
    return float(special.ndtri(1 - alpha / 2) + special.ndtri(wanted)) * se


def units_needed(effect: float, unit_variance: float, alpha: float, wanted: float) -> int:
    """Units, of both variants together, with which a look planned in advance finds ``effect`` with power ``wanted``.

    ``unit_variance`` is the squared standard error of the difference times the units behind it.
    """
    z = scipy("special").ndtri(1 - alpha / 2)
    return _smallest(effect, unit_variance, wanted, lambda units: z)


def units_needed_anytime(effect: float, unit_variance: float, alpha: float, wanted: float, rho2: float) -> int:
    """The same for the anytime-valid interval, if looked at once; looking earlier can only find it sooner."""
    return _smallest(effect, unit_variance, wanted, lambda units: float(critical(units, alpha, rho2)))


def _smallest(effect: float, unit_variance: float, wanted: float, reach: Callable[[int], float]) -> int:
    """The least number of units at which the interval's reach and the power's share of the error fit into ``effect``;
    both shrink with more units, so halving finds it."""
    z = float(scipy("special").ndtri(wanted))
    low, high = 1, MAX_UNITS
    while low < high:
        middle = (low + high) // 2
        if (reach(middle) + z) * sqrt(unit_variance / middle) <= effect:
            high = middle
        else:
            low = middle + 1
    return low
