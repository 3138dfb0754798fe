"""What is known of each shadow: how often it answers as control does, how far off it is, and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np

from inferd.core.difference import Agreement
from inferd.experiments.comparison import Interval
from inferd.experiments.definition import Experiment, Shadow, Variant
from inferd.experiments.events import SHED, UNAVAILABLE
from inferd.experiments.statistics.library import scipy
from inferd.experiments.statistics.limit import anytime_quantile, anytime_share
from inferd.experiments.verdict import percent


@dataclass(frozen=True, slots=True)
class ShadowRecord:
    """What is known of one variant. ``outcomes`` counts requests; ``equal`` of the "ok" ones are within tolerance.
    ``largest`` FP64[n] holds the largest difference of each that has floats; ``control_us`` and ``variant_us`` FP64[n]
    are model times of the same requests. ``kept`` are disagreements as they were kept, the oldest first."""

    outcomes: Mapping[str, int]
    equal: int
    labels: Agreement
    top_k: Agreement
    largest: np.ndarray
    control_us: np.ndarray
    variant_us: np.ndarray
    kept: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Quantiles:
    """The values that 50%, 95% and 99% do not exceed; ``None`` is beyond every number."""

    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class AgreementShare:
    """Of how many rows how many agree."""

    rows: int
    agreeing: int
    share: float


@dataclass(frozen=True, slots=True)
class ShadowComparison:
    """One variant beside control.

    Of ``compared`` requests, those that both answered, ``equal`` are within tolerance: the ``fixed`` interval of their
    share holds for a look planned in advance, ``anytime`` at every look. ``failed`` counts the shadow's failures by
    error code; requests that were ``shed`` or ``unavailable`` were not run. ``largest`` is the largest difference in a
    request. Model times are in microseconds; ``slower_us`` is by how much variant is slower, request by request, and
    ``median_slower_us`` the interval of its median, at every look. ``None`` where nothing is known. ``disagreements``
    are what was kept.
    """

    variant: str
    target: str
    verdict: str
    compared: int
    equal: int
    equal_share: float | None
    fixed: Interval | None
    anytime: Interval | None
    failed: Mapping[str, int]
    shed: int
    unavailable: int
    labels: AgreementShare | None
    top_k: AgreementShare | None
    k: int
    largest: Quantiles | None
    control_us: Quantiles | None
    variant_us: Quantiles | None
    slower_us: Quantiles | None
    median_slower_us: Interval | None
    disagreements: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """The report of an experiment in mode ``shadow``, where there is nothing else to report."""

    experiment: str
    model: str
    mode: Literal["shadow"]
    control: str
    sample: float
    rtol: float
    atol: float
    alpha: float
    shadows: tuple[ShadowComparison, ...]


def shadow_report(experiment: Experiment, records: Mapping[str, ShadowRecord]) -> ShadowReport:
    """The report of an experiment in mode ``shadow``. Raises ``MissingExtra`` where SciPy is not installed."""
    settings = experiment.shadow or Shadow()
    return ShadowReport(
        experiment.id,
        experiment.model,
        "shadow",
        experiment.control.target,
        settings.sample,
        settings.rtol,
        settings.atol,
        experiment.analysis.alpha,
        compare_shadows(experiment, records),
    )


def compare_shadows(experiment: Experiment, records: Mapping[str, ShadowRecord]) -> tuple[ShadowComparison, ...]:
    """Each variant but control, with what ``records`` hold of it."""
    settings, alpha = experiment.shadow or Shadow(), experiment.analysis.alpha
    known = [(variant, records[variant.name]) for variant in experiment.variants[1:] if variant.name in records]
    return tuple(_compare(variant, record, settings.top_k, alpha) for variant, record in known)


def _compare(variant: Variant, record: ShadowRecord, k: int, alpha: float) -> ShadowComparison:
    outcomes = dict(record.outcomes)
    compared, shed, unavailable = (outcomes.pop(each, 0) for each in ("ok", SHED, UNAVAILABLE))
    fixed = anytime = None
    if compared:
        planned = scipy("stats").binomtest(record.equal, compared).proportion_ci(1 - alpha, method="wilson")
        fixed = Interval(float(planned.low), float(planned.high))
        anytime = Interval(*anytime_share(record.equal, compared, alpha))
    slower = record.variant_us - record.control_us
    return ShadowComparison(
        variant.name,
        variant.target,
        _verdict(compared, record.equal, anytime, sum(outcomes.values())),
        compared,
        record.equal,
        record.equal / compared if compared else None,
        fixed,
        anytime,
        outcomes,
        shed,
        unavailable,
        _share(record.labels),
        _share(record.top_k),
        k,
        _quantiles(record.largest),
        _quantiles(record.control_us),
        _quantiles(record.variant_us),
        _quantiles(slower),
        _median(slower, alpha),
        tuple(record.kept),
    )


def _verdict(compared: int, equal: int, anytime: Interval | None, failed: int) -> str:
    failures = f"; {failed:,} of {failed + compared:,} failed" if failed else ""
    if anytime is None:
        return f"nothing was compared{failures}."
    return (
        f"{percent(equal / compared)} of {compared:,} answers equal control's; "
        f"whenever you look, {percent(anytime.low)} to {percent(anytime.high)}{failures}."
    )


def _share(agreement: Agreement) -> AgreementShare | None:
    share = agreement.share
    return None if share is None else AgreementShare(agreement.rows, agreement.agreeing, share)


def _quantiles(values: np.ndarray) -> Quantiles | None:
    if not len(values):
        return None
    found = np.quantile(values, [0.5, 0.95, 0.99], method="inverted_cdf").tolist()
    return Quantiles(*(value if isfinite(value) else None for value in found))


def _median(values: np.ndarray, alpha: float) -> Interval | None:
    low, high = anytime_quantile(values, 0.5, alpha)
    return Interval(low, high) if isfinite(low) and isfinite(high) else None
