"""The part of a report's page that only a bandit has: its variants as they are now, and what policies would have
earned."""

from __future__ import annotations

from html import escape

from inferd.experiments.bandits.evaluation import Value
from inferd.experiments.bandits.report import BanditReport
from inferd.experiments.html_page import number, row

BIASED = (
    "The shares follow the rewards, so these averages are of different times and requests: do not compare them. What "
    "follows weighs each prediction by the chance with which its variant was chosen."
)
LOST = (
    "Rewards of some variant are lost more often than another's, or the propensities are wrong: every verdict is void, "
    "and the bandit learns from what is left."
)


def bandit_sections(report: BanditReport) -> str:
    """Names are escaped."""
    days = "" if report.days is None else f", over {report.days:,.1f} days"
    told = (
        f"{report.predictions:,} predictions of {report.model}{days}; {report.reward} is known of {report.rewards:,}."
    )
    variants = "".join(
        row(each.name, f"{each.predictions:,}", f"{each.share:.2%}", f"{each.rewards:,}", number(each.average))
        for each in report.variants
    )
    head = "<tr><th>variant</th><th>predictions</th><th>share</th><th>rewards</th><th>average</th></tr>"
    alarm = f'<p class="verdict void">{LOST}</p>' if report.split_alarm else ""
    table = f"<p>{escape(told)}</p><table>{head}{variants}</table>"
    return f'{table}<p class="note">{BIASED}</p>{alarm}{_policies(report)}'


def _policies(report: BanditReport) -> str:
    rows = "".join(
        row(each.policy, _cell(each.weighted), _cell(each.normalised), _cell(each.robust)) for each in report.policies
    )
    head = "<tr><th>policy</th><th>inverse propensities</th><th>normalised</th><th>doubly robust</th></tr>"
    title = f"<h2>{escape(report.reward)}: what each policy would earn a prediction</h2>"
    return f"<section>{title}<table>{head}{rows}</table>{_gain(report)}</section>"


def _gain(report: BanditReport) -> str:
    if report.gain is None:
        return ""
    low, high = number(report.gain.anytime.low), number(report.gain.anytime.high)
    more = f"{number(report.gain.mean)} more than by the weights"
    return f"<p>Earned {number(report.earned)} each, {more}; whenever you look, {low} to {high}.</p>"


def _cell(value: Value | None) -> str:
    if value is None:
        return number(None)
    return f"{number(value.mean)} ({number(value.anytime.low)} to {number(value.anytime.high)})"
