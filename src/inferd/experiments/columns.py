"""Exposures and outcomes in columns, a row each: what every report is made from, wherever the rows came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from inferd.experiments.automatic import DISAGREEMENT, ERROR, LATENCY, REJECTED
from inferd.experiments.definition import Experiment

LABEL, SCORE = "label", "score"
LEAST_SIZE, MOST_SIZE = 1e-60, 1e60
"""Of a value that is not 0, so that fourth powers, which variances of variances are, stay within doubles."""


@dataclass(frozen=True, slots=True)
class Columns:
    """``unit`` INT64[rows] numbers the units from 0 up to ``unit_count``, ``variant`` INT64[rows] the variants in the
    definition's order. ``values`` holds FP64[rows] by name, not a number where a row says nothing. ``time_s``
    FP64[rows] is in seconds since the epoch, ``None`` where times are unknown. ``joined`` says that a row holds all
    that was observed together, so that a ratio's numerator without a denominator is an outcome half known; where each
    row is one value, told by itself, it is not. ``label`` [rows] holds what predictions said, ``None`` elsewhere; where
    they are numbers, the column ``score`` does."""

    unit_count: int
    unit: np.ndarray
    variant: np.ndarray
    values: Mapping[str, np.ndarray]
    time_s: np.ndarray | None = None
    joined: bool = True
    label: np.ndarray | None = None

    def named(self, name: str) -> np.ndarray:
        """The column, FP64[rows]; where it is absent it says nothing."""
        return self.values[name] if name in self.values else np.full(len(self.unit), np.nan)


def is_measurable(value: float) -> bool:
    """Whether ``value`` is 0 or of a size that can be analysed; never for what is not finite."""
    return value == 0 or LEAST_SIZE <= abs(value) <= MOST_SIZE


def value_names(experiment: Experiment) -> list[str]:
    """The columns that the metrics read, each once, in the definition's order."""
    wanted = (
        name for metric in experiment.metrics for name in (metric.column, metric.denominator, metric.covariate) if name
    )
    return list(dict.fromkeys(wanted))


def automatic_names(experiment: Experiment) -> list[str]:
    """The other columns, which each prediction has without anybody telling."""
    known = (ERROR, REJECTED, LATENCY, SCORE, DISAGREEMENT)
    return [name for name in known if name not in value_names(experiment)]
