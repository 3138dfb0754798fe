"""Intervals and p-values that stay valid however often one looks, and whenever one stops."""

from __future__ import annotations

from math import log

import numpy as np

from inferd.experiments.statistics.effect import Difference, Interval

# Of each variant. The guarantee is asymptotic in the first look; the simulations look from here on, so nothing is
# stated earlier.
MIN_UNITS = 100


def mixture(tuning_units: int, alpha: float) -> float:
    """rho**2, the variance of the mixture that makes the interval tightest at about ``tuning_units`` units.

    Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, *Time-uniform central limit theory and asymptotic confidence
    sequences*, Annals of Statistics 52, 2024, appendix on the choice of rho.
    """
    return (-2 * log(alpha) + log(-2 * log(alpha) + 1)) / tuning_units


def critical(units: np.ndarray | float, alpha: float, rho2: float) -> np.ndarray:
    """How many standard errors the interval reaches to each side after ``units`` units of both variants together:
    sqrt(2 (n rho2 + 1) / (n rho2) * ln(sqrt(n rho2 + 1) / alpha)), the same paper's boundary for normal mixtures."""
    spread = np.asarray(units, np.float64) * rho2
    value: np.ndarray = np.sqrt(2 * (spread + 1) / spread * np.log(np.sqrt(spread + 1) / alpha))
    return value


def anytime_interval(effect: Difference, alpha: float, rho2: float) -> Interval:
    """The confidence sequence at this look: all looks together cover the true difference with 1 - alpha."""
    reach = critical(effect.units, alpha, rho2) * effect.se
    return effect.delta - reach, effect.delta + reach


def anytime_p(effect: Difference, rho2: float) -> np.ndarray:
    """The smallest alpha whose interval at this look excludes 0: ``critical`` solved for alpha, at most 1.

    Always valid in the sense of Johari, Koomen, Pekelis and Walsh, *Always Valid Inference*, Operations Research 70,
    2022: under no difference the chance that any look shows p <= alpha is at most alpha.
    """
    spread = effect.units * rho2
    with np.errstate(divide="ignore", invalid="ignore"):
        z2 = (effect.delta / effect.se) ** 2
        value: np.ndarray = np.minimum(1.0, np.sqrt(spread + 1) * np.exp(-z2 * spread / (2 * (spread + 1))))
    return value
