"""Sample ratio mismatch: are the variants as large as their weights say?"""

from __future__ import annotations

from collections.abc import Sequence

from inferd.experiments.statistics.library import scipy

# Fabijan et al., *Diagnosing Sample Ratio Mismatch in Online Controlled Experiments*, KDD 2019: so low that a healthy
# experiment hardly ever alarms, because an alarm voids the whole report.
ALARM = 0.001


def imbalance_p(counts: Sequence[int], shares: Sequence[float]) -> float:
    """The chance of a split at least this far from ``shares`` if assignment works: Pearson's chi-square test."""
    total = sum(counts)
    if total == 0:
        return 1.0
    return float(scipy("stats").chisquare(counts, [share * total for share in shares]).pvalue)
