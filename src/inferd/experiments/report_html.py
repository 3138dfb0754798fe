"""A report as one HTML page: tables, verdicts, and a drawing of each metric's intervals."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from inferd.experiments.answers import AnswerComparison
from inferd.experiments.bandits.report import BanditReport
from inferd.experiments.bandits.report_html import bandit_sections
from inferd.experiments.comparison import Interval
from inferd.experiments.html_page import number, page, row
from inferd.experiments.report import Comparison, Report
from inferd.experiments.shadow_html import shadow_report_html, shadow_sections
from inferd.experiments.shadow_report import ShadowReport

_WIDTH, _HEIGHT, _MARGIN, _LABEL = 640, 64, 12, 44
_NOTE = """Bars: light, the interval that holds however often you look ({level}); dark, the narrower one that holds
only for a single look planned in advance. A bar that crosses the line at 0 leaves open whether there is any
difference."""


def report_html(report: Report | ShadowReport | BanditReport) -> str:
    """The page. Names from the definition are escaped."""
    if isinstance(report, ShadowReport):
        return shadow_report_html(report)
    if isinstance(report, BanditReport):
        return _bandit_html(report)
    days = "" if report.days is None else f", over {report.days:,.1f} days"
    crossed = f" {report.crossed_units:,} seen in several variants are left out." if report.crossed_units else ""
    variants = "".join(row(v.name, f"{v.units:,}", f"{v.share:.2%}", f"{v.planned:.2%}") for v in report.variants)
    split = f"Split {'not ' if report.split_alarm else ''}as planned (p = {report.split_p:.2g})."
    parts = (
        f"<p>{report.units:,} units of {escape(report.model)}{days}.{crossed}</p>",
        f"<table><tr><th>variant</th><th>units</th><th>share</th><th>planned</th></tr>{variants}</table>",
        f'<p class="verdict {"void" if report.split_alarm else ""}">{split}</p>',
        *map(_section, report.comparisons),
        _guardrails(report),
        _automatic(report.automatic, report.answers),
        shadow_sections(report.shadows),
        f'<p class="note">{_NOTE.format(level=f"{1 - report.alpha:.0%} in all")}</p>',
    )
    return page(f"Experiment {report.experiment}", "\n".join(parts))


def _bandit_html(report: BanditReport) -> str:
    parts = (
        bandit_sections(report),
        *map(_section, report.comparisons),
        _automatic(report.automatic, ()),
        shadow_sections(report.shadows),
        f'<p class="note">{_NOTE.format(level=f"{1 - report.alpha:.0%} in all")}</p>',
    )
    return page(f"Experiment {report.experiment}", "\n".join(parts))


def _guardrails(report: Report) -> str:
    rails = "".join(
        f'<p class="verdict {check.conclusion}">{escape(check.metric)}: {escape(check.verdict)}</p>'
        for check in report.guardrails
    )
    return f"<section><h2>Guardrails</h2>{rails}</section>" if rails else ""


def _automatic(automatic: Sequence[Comparison], answers: Sequence[AnswerComparison]) -> str:
    """What is measured without feedback, one line a comparison."""
    if not (automatic or answers):
        return ""
    rows = [
        row(each.metric, each.variant, number(each.estimate.control), number(each.estimate.treated), each.verdict)
        for each in automatic
    ]
    rows += [row(f"{each.kind}s", each.variant, "", f"{each.distance:.3f} apart", _chance(each)) for each in answers]
    rows += [
        row(f"label {share.label}", each.variant, f"{share.control:.1%}", f"{share.treated:.1%}", "")
        for each in answers
        for share in each.shares
    ]
    head = "<tr><th></th><th>variant</th><th>control</th><th>variant's</th><th></th></tr>"
    return f"<section><h2>Of every prediction, without feedback</h2><table>{head}{''.join(rows)}</table></section>"


def _chance(answers: AnswerComparison) -> str:
    return f"{'more' if answers.differs else 'not more'} than the {answers.by_chance:.3f} that chance explains"


def _section(comparison: Comparison) -> str:
    found, kind = comparison.estimate, escape(comparison.conclusion)
    rows = [
        ("control", number(found.control), f"{found.control_units:,}"),
        (comparison.variant, number(found.treated), f"{found.treated_units:,}"),
    ]
    return (
        f"<section><h2>{escape(comparison.metric)}: {escape(comparison.variant)}</h2>"
        f'<p class="verdict {kind.replace(" ", "-")}">{escape(comparison.verdict)}</p>'
        f"<table><tr><th></th><th>{comparison.kind}</th><th>units</th></tr>"
        f"{''.join(row(*cells) for cells in rows)}</table>{_drawing(comparison)}</section>"
    )


def _drawing(comparison: Comparison) -> str:
    """Both intervals of the relative difference, or of the difference itself, over an axis through 0."""
    found = comparison.estimate
    relative = found.relative_fixed is not None
    fixed = found.relative_fixed or found.fixed
    anytime = found.relative_anytime if relative else found.anytime
    middle = found.relative if relative else found.delta
    if fixed is None or middle is None:
        return ""
    wide = anytime or fixed
    reach = max(map(abs, (wide.low, wide.high, fixed.low, fixed.high))) or 1.0
    bars = [_bar(wide, reach, 24, 10, "#9dbfe6")] if anytime else []
    bars += [_bar(fixed, reach, 27, 4, "#1d4f91"), f'<circle cx="{_x(middle, reach):.1f}" cy="29" r="5"/>']
    ends = [_label(end, reach, relative) for end in (wide.low, wide.high)]
    if min(abs(_x(end, reach) - _WIDTH / 2) for end in (wide.low, wide.high)) > _LABEL:
        ends.append(_label(0.0, reach, relative))
    zero = f'<line x1="{_x(0, reach):.1f}" x2="{_x(0, reach):.1f}" y1="8" y2="46" stroke="#888"/>'
    name = f"{escape(comparison.metric)}: interval from {wide.low:.4g} to {wide.high:.4g}"
    drawn = "".join([zero, *bars, *ends])
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{name}">{drawn}</svg>'


def _x(value: float, reach: float) -> float:
    return _WIDTH / 2 + (_WIDTH / 2 - 3 * _MARGIN) * value / reach


def _bar(interval: Interval, reach: float, top: int, height: int, colour: str) -> str:
    low, high = _x(interval.low, reach), _x(interval.high, reach)
    return f'<rect x="{low:.1f}" y="{top}" width="{max(high - low, 1):.1f}" height="{height}" fill="{colour}"/>'


def _label(value: float, reach: float, relative: bool) -> str:
    words = f"{value:+.1%}" if relative else f"{value:+.3g}"
    return f'<text x="{_x(value, reach):.1f}" y="60" text-anchor="middle">{words if value else 0}</text>'
