"""What two versions made of the same requests, side by side: errors, differences, latency."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
import numpy as np

from inferd.core.difference import Agreement, Difference, Differences, compare_answers
from inferd.core.plain_text import digits
from inferd.serving.capture import CapturedRequest

QUANTILES = (0.5, 0.95, 0.99)
_MAX_REASONS = 5
_MAX_SHOWN = 160


@dataclass(frozen=True, slots=True)
class Side:
    """One column: what it made of the requests. ``compute_ms`` holds the quantiles of ``QUANTILES``, nothing where no
    time is known. ``batch_rows`` is the average."""

    name: str
    requests: int
    answered: int
    errors: Counter[str]
    compute_ms: tuple[float, ...]
    batch_rows: float

    @classmethod
    def of(cls, name: str, results: Sequence[CapturedRequest]) -> Side:
        """The column of ``results``."""
        times = [each.compute_ns / 1e6 for each in results if each.compute_ns]
        rows = [each.batch_rows for each in results if each.compute_ns]
        return cls(
            name,
            len(results),
            sum(each.outcome == "ok" for each in results),
            Counter(each.outcome for each in results if each.outcome != "ok"),
            tuple(np.quantile(times, QUANTILES).tolist()) if times else (),
            float(np.mean(rows)) if rows else 0.0,
        )

    def describe(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "requests": self.requests,
            "answered": self.answered,
            "errors": dict(self.errors),
            "compute_ms": {f"p{q * 100:g}": ms for q, ms in zip(QUANTILES, self.compute_ms, strict=False)},
            "batch_rows": self.batch_rows,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """``worst`` are the requests whose answers differ, the worst first. ``lost`` is how many only the first side
    answered, ``gained`` how many only the second. ``reasons`` counts why the second failed."""

    sides: tuple[Side, Side]
    differences: Differences
    worst: Sequence[tuple[CapturedRequest, Difference]]
    lost: int
    gained: int
    reasons: Counter[str]

    @property
    def differing(self) -> float | None:
        """Of what the first side answered, the share that the second answers otherwise or not at all; None when there
        is nothing to compare."""
        judged = self.differences.compared + self.lost
        return (judged - self.differences.equal) / judged if judged else None

    @property
    def answers_nothing(self) -> bool:
        """Whether the second side answers none of the requests of which the first answered some."""
        return bool(self.sides[0].answered and not self.sides[1].answered)

    def describe(self, worst: int) -> dict[str, Any]:
        """For JSON, which knows no infinity."""
        found = self.differences
        return {
            "before": self.sides[0].describe(),
            "after": self.sides[1].describe(),
            "compared": found.compared,
            "within_tolerance": found.equal,
            "lost": self.lost,
            "gained": self.gained,
            "differing": self.differing,
            "labels": _agreement(found.labels),
            "top_k": _agreement(found.top_k),
            "largest_difference": _finite(found.largest),
            "worst": [
                {
                    "request_id": request.request_id,
                    "at_ms": request.at_ms,
                    "reason": difference.reason,
                    "inputs": {name: _shown(array) for name, array in request.inputs.items()},
                }
                for request, difference in self.worst[:worst]
            ],
            "reasons": dict(self.reasons),
        }


def compare_results(
    sides: tuple[str, str],
    before: Sequence[CapturedRequest],
    after: Sequence[CapturedRequest],
    *,
    rtol: float,
    atol: float,
    top_k: int,
    compare: bool = True,
) -> Comparison:
    """Hold the results of the same requests against each other, as ``compare_answers`` does. Without ``compare`` the
    answers are left alone."""
    pairs = list(zip(before, after, strict=True)) if compare else []
    found = [
        (new, compare_answers(old.outputs, new.outputs, rtol=rtol, atol=atol, top_k=top_k))
        for old, new in pairs
        if old.outcome == new.outcome == "ok" and old.outputs
    ]
    return Comparison(
        (Side.of(sides[0], before), Side.of(sides[1], after)),
        Differences(difference for _, difference in found),
        sorted((each for each in found if not each[1].equal), key=_badness, reverse=True),
        sum(old.outcome == "ok" != new.outcome for old, new in pairs),
        sum(new.outcome == "ok" != old.outcome for old, new in pairs),
        Counter(new.reason for new in after if new.outcome != "ok"),
    )


def _badness(found: tuple[CapturedRequest, Difference]) -> tuple[int, float]:
    """A wrong label is worse than any distance; what cannot be compared has no distance."""
    difference = found[1]
    distance = math.inf if difference.largest is None else difference.largest
    return difference.labels.rows - difference.labels.agreeing, distance


def print_comparison(comparison: Comparison, *, top_k: int, worst: int) -> None:
    """The report for people."""
    _print_sides(comparison.sides)
    for reason, count in comparison.reasons.most_common(_MAX_REASONS):
        click.echo(f"  {count:,} x {reason}")
    _print_differences(comparison, top_k)
    if comparison.worst and worst:
        click.echo("\nthe worst")
    for request, difference in comparison.worst[:worst]:
        click.echo(f"  {request.request_id}: {difference.reason}")
        for name, array in request.inputs.items():
            click.echo(f"    {name} = {_shown(array)}")


def _print_differences(comparison: Comparison, top_k: int) -> None:
    if comparison.differing is None:
        return
    found = comparison.differences
    click.echo(f"\n{comparison.differing:.2%} of the answers differ")
    click.echo(f"  both answered        {found.compared:,}")
    click.echo(f"  within tolerance     {found.equal:,}")
    if comparison.lost:
        click.echo(f"  answered no more     {comparison.lost:,}")
    _print_agreement("labels agree", found.labels)
    _print_agreement(f"top {top_k} agree", found.top_k)
    if found.largest is not None:
        click.echo(f"  largest difference   {found.largest:.6g}")


def _print_sides(sides: tuple[Side, Side]) -> None:
    width = max(12, *(len(side.name) for side in sides))

    def line(title: str, cells: Sequence[str]) -> None:
        click.echo(f"{title:<18}" + "".join(f"  {cell:>{width}}" for cell in cells))

    line("", [side.name for side in sides])
    line("requests", [f"{side.requests:,}" for side in sides])
    line("answered", [f"{side.answered:,}" for side in sides])
    for outcome in sorted({*sides[0].errors, *sides[1].errors}):
        line(f"  {outcome}", [f"{side.errors[outcome]:,}" for side in sides])
    for i, quantile in enumerate(QUANTILES):
        cells = [f"{digits(side.compute_ms[i], 3)} ms" if side.compute_ms else "-" for side in sides]
        line(f"compute p{quantile * 100:g}", cells)
    line("rows in a batch", [f"{side.batch_rows:.1f}" if side.batch_rows else "-" for side in sides])


def _print_agreement(title: str, agreement: Agreement) -> None:
    if agreement.share is not None:
        click.echo(f"  {title:<20} {agreement.share:.2%} of {agreement.rows:,} rows")


def _agreement(agreement: Agreement) -> dict[str, Any]:
    return {"agreeing": agreement.agreeing, "rows": agreement.rows, "share": agreement.share}


def _finite(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else "infinite"


def _shown(array: np.ndarray) -> str:
    text = " ".join(np.array2string(array, threshold=16, edgeitems=3, precision=6).split())
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
