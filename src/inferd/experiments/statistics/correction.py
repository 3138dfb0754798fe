"""Multiple testing: p-values raised so that many comparisons do not find something by chance alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inferd.experiments.definition import Correction
from inferd.experiments.statistics.library import scipy


def corrected(p_values: Sequence[float], method: Correction) -> list[float]:
    """Holm (*Scandinavian Journal of Statistics* 6, 1979) bounds the chance of any false finding; Benjamini and
    Hochberg (*Journal of the Royal Statistical Society B* 57, 1995) bound the expected share of false ones among the
    found."""
    if method == "none" or not p_values:
        return list(p_values)
    if method == "benjamini-hochberg":
        return [float(p) for p in scipy("stats").false_discovery_control(p_values, method="bh")]
    p = np.asarray(p_values)
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(np.minimum(1.0, p[order] * np.arange(len(p), 0, -1)))
    result = np.empty(len(p))
    result[order] = raised
    return result.tolist()
