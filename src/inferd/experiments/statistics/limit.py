"""Whether a share is beyond a limit, valid at any look and for any number of trials, from counts alone."""

from __future__ import annotations

from math import exp, log

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
