"""Sample ratio mismatch: are the variants as large as their weights say?"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

from inferd.experiments.statistics.library import scipy

# Fabijan et al., *Diagnosing Sample Ratio Mismatch in Online Controlled Experiments*, KDD 2019: so low that a healthy
# experiment hardly ever alarms, because an alarm voids the whole report.
ALARM = 0.001
# The prior of the sequential test is as narrow as after this many units: it finds small mismatches of large experiments
# sooner, and large ones of small experiments later, than a wide one.
_PRIOR_UNITS = 1000.0


def imbalance_p(counts: Sequence[int], shares: Sequence[float]) -> float:
    """The chance of a split at least this far from ``shares`` if assignment works: Pearson's chi-square test."""
    total = sum(counts)
    if total == 0:
        return 1.0
    return float(scipy("stats").chisquare(counts, [share * total for share in shares]).pvalue)


def anytime_imbalance_p(counts: Sequence[int], shares: Sequence[float]) -> float:
    """The same, valid however often one looks: the inverse of the Bayes factor of a Dirichlet mixture of splits around
    ``shares`` against ``shares``. Lindon and Malek, *Anytime-Valid Inference for Multinomial Count Data*, NeurIPS 2022.
    """
    gammaln = scipy("special").gammaln
    prior = [share * _PRIOR_UNITS for share in shares]
    factor = float(gammaln(_PRIOR_UNITS) - gammaln(_PRIOR_UNITS + sum(counts)))
    for count, weight, share in zip(counts, prior, shares, strict=True):
        factor += float(gammaln(weight + count) - gammaln(weight)) - count * log(share)
    return exp(-factor) if factor > 0 else 1.0
