"""From rows to sufficient statistics: one entry a unit, then sums that servers can add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from inferd.experiments.answers import Answers, answers_of
from inferd.experiments.automatic import measured
from inferd.experiments.columns import Columns
from inferd.experiments.definition import Experiment, Metric
from inferd.experiments.statistics.moments import Moments
from inferd.experiments.statistics.quantile import Outcomes


@dataclass(frozen=True, slots=True)
class Summary:
    """All that a report needs to know about a set of units, per variant in the definition's order.

    ``crossed`` units were seen in more than one variant and are left out of everything else. Adding the summaries of
    disjoint sets of units gives the summary of all: exactly so for ``counts`` and ``moments``; the outcomes of quantile
    metrics are kept whole and joined, and so are the answers.
    """

    counts: tuple[int, ...]
    crossed: int
    moments: Mapping[str, tuple[Moments, ...]]
    outcomes: Mapping[str, tuple[Outcomes, ...]]
    answers: tuple[Answers, ...]
    span_s: tuple[float, float] | None = None

    def __add__(self, other: Summary) -> Summary:
        spans = [span for span in (self.span_s, other.span_s) if span is not None]
        return Summary(
            tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
            self.crossed + other.crossed,
            {name: tuple(map(Moments.__add__, arms, other.moments[name])) for name, arms in self.moments.items()},
            {name: tuple(map(Outcomes.__add__, arms, other.outcomes[name])) for name, arms in self.outcomes.items()},
            tuple(map(Answers.__add__, self.answers, other.answers)),
            (min(span[0] for span in spans), max(span[1] for span in spans)) if spans else None,
        )


def summarise(experiment: Experiment, columns: Columns) -> Summary:
    """The summary of all rows. A unit's rows must all be among them."""
    variant_of, crossed = _variants(columns)
    count = len(experiment.variants)
    moments: dict[str, tuple[Moments, ...]] = {}
    outcomes: dict[str, tuple[Outcomes, ...]] = {}
    for metric in measured(experiment):
        if metric.kind == "quantile":
            outcomes[metric.name] = tuple(_outcomes(metric, columns, variant_of == i) for i in range(count))
        else:
            totals, present = unit_totals(metric, columns)
            arms = (totals[present & (variant_of == i)] for i in range(count))
            moments[metric.name] = tuple(map(Moments.of, arms))
    time_s = columns.time_s
    span_s = None if time_s is None or not time_s.size else (float(time_s.min()), float(time_s.max()))
    counts = tuple(int((variant_of == i).sum()) for i in range(count))
    answers = tuple(answers_of(columns, variant_of == i) for i in range(count))
    return Summary(counts, int(crossed.sum()), moments, outcomes, answers, span_s)


def _variants(columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """The variant of each unit, -1 for one seen in several, and which those are."""
    variant_of = np.full(columns.unit_count, -1, np.int64)
    variant_of[columns.unit] = columns.variant
    crossed = np.zeros(columns.unit_count, bool)
    crossed[columns.unit[variant_of[columns.unit] != columns.variant]] = True
    variant_of[crossed] = -1
    return variant_of, crossed


def unit_totals(metric: Metric, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """FP64[units, 3]: numerator, denominator and covariate of each unit, and which units have an outcome."""
    value = columns.named(metric.column)
    weight = columns.values[metric.denominator] if metric.denominator else np.where(np.isnan(value), np.nan, 1.0)
    valued, weighed = ~np.isnan(value), ~np.isnan(weight)
    if columns.joined:
        valued = weighed = valued & weighed
    numerator, has_value = _per_unit(columns, value, valued)
    denominator, has_weight = _per_unit(columns, weight, weighed)
    present = has_value & has_weight
    return np.column_stack([numerator, denominator, _covariate(metric, columns, present)]), present


def _per_unit(columns: Columns, values: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sum of each unit's known values, and which units have one."""
    unit, size = columns.unit[known], columns.unit_count
    return np.bincount(unit, values[known], minlength=size), np.bincount(unit, minlength=size) > 0


def _covariate(metric: Metric, columns: Columns, present: np.ndarray) -> np.ndarray:
    """Each unit's first covariate; the average of the others where it has none, which neither helps nor biases."""
    found = np.full(columns.unit_count, np.nan)
    if not metric.covariate:
        return np.zeros_like(found)
    value = columns.values[metric.covariate]
    rows = np.flatnonzero(~np.isnan(value))[::-1]
    found[columns.unit[rows]] = value[rows]
    known = found[present & ~np.isnan(found)]
    return np.where(np.isnan(found), known.mean() if known.size else 0.0, found)


def _outcomes(metric: Metric, columns: Columns, wanted: np.ndarray) -> Outcomes:
    value = columns.named(metric.column)
    rows = ~np.isnan(value) & wanted[columns.unit]
    units, owner = np.unique(columns.unit[rows], return_inverse=True)
    return Outcomes(value[rows], owner, len(units))
