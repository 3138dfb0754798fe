"""Whom a simulation draws from: units with known outcomes, made up from two figures or taken from a log."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inferd.core.errors import ConfigError, MalformedRequest
from inferd.experiments.columns import Columns
from inferd.experiments.definition import Metric
from inferd.experiments.summary import unit_totals

_SIZE = 100_000


@dataclass(frozen=True, slots=True)
class Population:
    """``units`` FP64[units, 3] hold numerator, denominator and covariate. ``binary`` says that each has one outcome,
    0 or 1."""

    units: np.ndarray
    binary: bool

    @property
    def metric(self) -> float:
        """The true value, which estimates are held to."""
        return float(self.units[:, 0].sum() / self.units[:, 1].sum())

    def lifted(self, lift: float, rng: np.random.Generator) -> Population:
        """The same units with the metric raised by the share ``lift``: each numerator by as much or, where outcomes are
        0 or 1, as many of them turned over, at random, as that takes."""
        units = self.units.copy()
        if not self.binary:
            units[:, 0] *= 1 + lift
            return Population(units, False)
        wanted = 1.0 if lift > 0 else 0.0
        others = np.flatnonzero(units[:, 0] != wanted)
        turned = round(abs(lift) * units[:, 0].sum())
        if turned > others.size:
            raise ConfigError(f"a proportion of {self.metric:.3g} cannot be raised by {lift:.0%}; plant a smaller lift")
        units[rng.choice(others, turned, replace=False), 0] = wanted
        return Population(units, True)


def made_up(metric: Metric, rng: np.random.Generator) -> Population:
    """Units with the metric's ``baseline`` and ``deviation``: gamma distributed where the baseline is above 0, so a
    deviation beyond the baseline makes them as skewed as revenue is, and normal otherwise. Raises ``ConfigError``."""
    if metric.baseline is None or (metric.kind != "proportion" and metric.deviation is None):
        lacking = "baseline" if metric.kind == "proportion" else "baseline and deviation"
        raise ConfigError(
            f"metric {metric.name!r} needs a {lacking} in the definition to be simulated, or a log to draw from (--log)"
        )
    mean, deviation = metric.baseline, metric.deviation or 0.0
    if metric.kind == "proportion":
        outcomes = (np.arange(_SIZE) < round(mean * _SIZE)).astype(np.float64)
    elif mean > 0:
        outcomes = rng.gamma((mean / deviation) ** 2, 1.0, _SIZE)
        if not outcomes.mean() > 0:
            raise ConfigError(f"metric {metric.name!r} has a deviation too far from its baseline; simulate it on a log")
        outcomes *= mean / outcomes.mean()
    else:
        outcomes = rng.normal(mean, deviation, _SIZE)
    ones = np.ones(_SIZE)
    return Population(np.column_stack([outcomes, ones, 0 * ones]), metric.kind == "proportion")


def of_log(metric: Metric, columns: Columns) -> Population:
    """The units that saw the control, as they were. Raises ``MalformedRequest`` where none has an outcome."""
    totals, present = unit_totals(metric, columns)
    control = np.zeros(columns.unit_count, bool)
    control[columns.unit[columns.variant == 0]] = True
    units = totals[present & control]
    if not units[:, 1].sum() > 0:
        raise MalformedRequest(f"the log has no outcome of metric {metric.name!r} in the control variant to draw from")
    binary = metric.kind == "proportion" and not metric.covariate and bool((units[:, 1] == 1).all())
    return Population(units, binary)
