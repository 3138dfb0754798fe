"""What was decided and what came of it, a row for each prediction: what off-policy estimates are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, slots=True)
class Decisions:
    """Rows in the order in which they were decided. ``unit`` INT64[rows] numbers whom each was for, ``arm`` INT64[rows]
    the variant in the definition's order, and ``propensity`` FP64[rows] is the chance with which that was chosen.
    ``values`` holds FP64[rows] of each metric by name, not a number where nothing was told. ``context`` FP64[rows, k]
    is what the choice was made by, not a number where that was not known. ``time_s`` FP64[rows] counts from 1970;
    ``None`` where times are unknown."""

    unit: np.ndarray
    arm: np.ndarray
    propensity: np.ndarray
    values: Mapping[str, np.ndarray]
    context: np.ndarray
    time_s: np.ndarray | None = None

    def told(self, metric: str) -> Decisions:
        """Those rows of which ``metric`` is known, with no other metric."""
        found = self.where(~np.isnan(self.values[metric]))
        return replace(found, values={metric: found.values[metric]})

    def where(self, keep: np.ndarray) -> Decisions:
        """The rows that BOOL[rows] ``keep`` marks."""
        return Decisions(
            self.unit[keep],
            self.arm[keep],
            self.propensity[keep],
            {name: value[keep] for name, value in self.values.items()},
            self.context[keep],
            None if self.time_s is None else self.time_s[keep],
        )

    @property
    def days(self) -> float | None:
        """From the first to the last."""
        return float(np.ptp(self.time_s)) / 86_400 if self.time_s is not None and self.time_s.size else None
