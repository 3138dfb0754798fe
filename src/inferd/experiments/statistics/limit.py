"""Whether a share or a quantile is beyond a limit, valid at any look and for any number of trials, from counts
alone."""

from __future__ import annotations

from bisect import bisect_left
from math import exp, inf, log

import numpy as np

from inferd.experiments.statistics.library import scipy


def above_p(hits: float, trials: float, limit: float) -> float:
    """The p-value, valid at any time, of "the share of hits is at most ``limit``": the inverse of the likelihood ratio
    of all larger shares, weighed alike, against ``limit``.

    Robbins, *Statistical Methods Related to the Law of the Iterated Logarithm*, Annals of Mathematical Statistics 41,
    1970: such a mixture is, while the share is at most ``limit``, a supermartingale that starts at 1, so that the
    chance that it ever reaches 1/p is at most p. Exact for independent trials, few ones too.
    """
    misses = trials - hits
    if trials <= 0 or not 0 < limit < 1:
        return 1.0
    special, stats = scipy("special"), scipy("stats")
    mixed = special.betaln(hits + 1, misses + 1) + stats.beta.logsf(limit, hits + 1, misses + 1) - log(1 - limit)
    ratio = float(mixed) - hits * log(limit) - misses * log(1 - limit)
    return exp(-ratio) if ratio > 0 else 1.0


def below_p(hits: float, trials: float, limit: float) -> float:
    """The same of "the share of hits is at least ``limit``"."""
    return above_p(trials - hits, trials, 1 - limit)


def anytime_share(hits: float, trials: float, alpha: float) -> tuple[float, float]:
    """All shares that ``hits`` of ``trials`` do not reject, at any time: with a chance of at least ``1 - alpha`` the
    true one is among them at every look."""
    return _least_share(hits, trials, alpha / 2), 1 - _least_share(trials - hits, trials, alpha / 2)


def anytime_quantile(values: np.ndarray, q: float, alpha: float) -> tuple[float, float]:
    """All values that FP64[n] ``values`` do not reject as their ``q`` quantile, at any time; infinite where they are
    too few. What does not exceed the true quantile, and what is below it, are shares with a known limit, whatever the
    distribution: Howard and Ramdas, *Sequential estimation of quantiles*, Bernoulli 28, 2022."""
    count, ordered = len(values), np.sort(values)
    least = bisect_left(range(count + 1), True, key=lambda hits: below_p(hits, count, q) > alpha / 2)
    most = bisect_left(range(count + 1), True, key=lambda hits: above_p(hits, count, q) <= alpha / 2) - 1
    low = ordered[least - 1] if least else -inf
    high = ordered[most] if most < count else inf
    return float(low), float(high)


def _least_share(hits: float, trials: float, alpha: float) -> float:
    def doubt(limit: float) -> float:
        return (above_p(hits, trials, limit) if limit else 0.0) - alpha

    return float(scipy("optimize").brentq(doubt, 0.0, hits / trials, xtol=1e-18)) if hits > 0 else 0.0
