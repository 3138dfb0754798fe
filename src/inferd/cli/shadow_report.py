"""Print what a report tells of shadows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from inferd.experiments.shadow_report import ShadowComparison, ShadowReport

SHOWN = 3
"""Disagreements of a variant that are printed; --json has all that were kept."""


def print_shadow_report(report: ShadowReport) -> None:
    """All of a report on shadows alone."""
    click.echo(f"{report.experiment}: {100 * report.sample:.3g}% of the requests to {report.model}")
    click.echo(f"  answered by {report.control}; floats within atol {report.atol:g} and rtol {report.rtol:g} are equal")
    if not report.shadows:
        click.echo("  nothing has run yet")
    for each in report.shadows:
        print_shadow(each, 1 - report.alpha)


def print_shadow(found: ShadowComparison, level: float) -> None:
    """One variant beside control."""
    click.echo(f"\n{found.variant} ({found.target}) beside control, request by request")
    click.echo(f"  {found.verdict}")
    click.echo(f"  {found.equal:,} of {found.compared:,} compared are equal within tolerance")
    if found.fixed is not None and found.anytime is not None:
        click.echo(f"  anytime-valid {level:.0%} interval {found.anytime.low:.2%} to {found.anytime.high:.2%}")
        click.echo(f"  fixed-horizon {level:.0%} interval {found.fixed.low:.2%} to {found.fixed.high:.2%}")
    for words, agreement in (("labels", found.labels), (f"the {found.k} classes ranked highest", found.top_k)):
        if agreement is not None:
            click.echo(f"  {words} agree in {agreement.share:.2%} of {agreement.rows:,} rows")
    for code, count in sorted(found.failed.items()):
        click.echo(f"  {count:,} failed: {code}")
    if found.shed or found.unavailable:
        click.echo(f"  not run: {found.shed:,} shed for lack of room, {found.unavailable:,} without a ready version")
    _print_quantiles(found, level)
    _print_disagreements(found)


def _print_quantiles(found: ShadowComparison, level: float) -> None:
    named = (
        ("largest difference", found.largest),
        ("control's model, us", found.control_us),
        (f"{found.variant}'s model, us", found.variant_us),
        (f"{found.variant} slower by, us", found.slower_us),
    )
    for name, values in named:
        if values is not None:
            click.echo(f"  {name}: p50 {_number(values.p50)}, p95 {_number(values.p95)}, p99 {_number(values.p99)}")
    if median := found.median_slower_us:
        ends = f"{median.low:+,.0f} to {median.high:+,.0f}"
        click.echo(f"  slower by, us: anytime-valid {level:.0%} interval of the median {ends}")


def _print_disagreements(found: ShadowComparison) -> None:
    for each in found.disagreements[:SHOWN]:
        click.echo(f"  request {each.get('request_id')}: {each.get('reason')}")
        for row in each.get("rows", ()):
            click.echo(f"    {json.dumps(row, ensure_ascii=False)}")
    if len(found.disagreements) > SHOWN:
        click.echo(f"  {len(found.disagreements) - SHOWN} more disagreements were kept: --json prints them all")


def _number(value: float | None) -> str:
    if value is None:
        return "infinite"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
