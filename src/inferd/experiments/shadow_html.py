"""The part of a report's page about shadows: how often each answers as control does, and some of what differed."""

from __future__ import annotations

import json
from html import escape

from inferd.experiments.html_page import number, page, row
from inferd.experiments.shadow_report import Quantiles, ShadowComparison, ShadowReport
from inferd.experiments.verdict import percent

SHOWN = 20
"""Disagreements on a page; the report as JSON has all that were kept."""


def shadow_report_html(report: ShadowReport) -> str:
    """The page of a report on shadows alone. Names are escaped."""
    tolerance = f"absolute tolerance {report.atol:g}, relative {report.rtol:g}"
    intro = f"{percent(report.sample)} of the requests to {report.model}, answered by {report.control}; {tolerance}."
    nothing = "" if report.shadows else "<p>Nothing has run yet.</p>"
    return page(f"Experiment {report.experiment}", f"<p>{escape(intro)}</p>{nothing}{shadow_sections(report.shadows)}")


def shadow_sections(shadows: tuple[ShadowComparison, ...]) -> str:
    """One section a variant."""
    return "".join(map(_section, shadows))


def _section(found: ShadowComparison) -> str:
    name = escape(found.variant)
    return (
        f"<section><h2>{name} beside control, request by request</h2>"
        f'<p class="verdict">{escape(found.verdict)}</p>'
        f"<table>{''.join(row(*cells) for cells in _counts(found))}</table>"
        f"<table><tr><th></th><th>50%</th><th>95%</th><th>99%</th></tr>{_quantile_rows(found)}</table>"
        f"{_disagreements(found)}</section>"
    )


def _counts(found: ShadowComparison) -> list[tuple[str, str]]:
    rows = [("compared", f"{found.compared:,}"), ("equal within tolerance", f"{found.equal:,}")]
    for words, agreement in (("labels", found.labels), (f"the {found.k} classes ranked highest", found.top_k)):
        if agreement is not None:
            rows.append((f"{words} agree", f"{agreement.share:.2%} of {agreement.rows:,} rows"))
    rows += [(f"failed: {code}", f"{count:,}") for code, count in sorted(found.failed.items())]
    rows += [("shed, for lack of room", f"{found.shed:,}"), ("no version ready", f"{found.unavailable:,}")]
    return [each for each in rows if each[1] != "0"]


def _quantile_rows(found: ShadowComparison) -> str:
    named = (
        ("largest difference", found.largest),
        ("control's model, µs", found.control_us),
        (f"{found.variant}'s, µs", found.variant_us),
        (f"{found.variant} slower by, µs", found.slower_us),
    )
    return "".join(row(name, *_cells(values)) for name, values in named if values is not None)


def _cells(values: Quantiles) -> list[str]:
    return ["infinite" if each is None else number(each) for each in (values.p50, values.p95, values.p99)]


def _disagreements(found: ShadowComparison) -> str:
    if not found.disagreements:
        return ""
    shown = "".join(
        f"<pre>{escape(json.dumps(each, ensure_ascii=False, indent=1))}</pre>" for each in found.disagreements[:SHOWN]
    )
    count = len(found.disagreements)
    return f"<details><summary>{min(count, SHOWN)} of {count} kept disagreements</summary>{shown}</details>"
