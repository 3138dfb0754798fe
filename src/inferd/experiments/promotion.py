"""What it means to give a variant to everyone, and whether a report is reason enough to do so."""

from __future__ import annotations

from dataclasses import dataclass

from inferd.experiments.bandits.report import BanditReport
from inferd.experiments.report import Report
from inferd.experiments.shadow_report import ShadowReport


@dataclass(frozen=True, slots=True)
class Promotion:
    """Which version everyone gets: by a ``label`` that is moved, or, without one, by being served alone."""

    variant: str
    version: int
    label: str = ""

    def __str__(self) -> str:
        to = f"label {self.label}" if self.label else "everyone"
        return f"{self.variant}, version {self.version}, promoted to {to}"


def why_not(
    report: Report | ShadowReport | BanditReport, variant: str, *, is_control: bool, must_be_better: bool = True
) -> str:
    """What speaks against promoting ``variant``; "" when nothing does.

    A treated variant must be better in a metric, unless that is not what was asked, worse in none, and inside every
    guardrail, on a split as it was planned. The control may always be kept.
    """
    if is_control:
        return ""
    if isinstance(report, ShadowReport):
        return "nobody has seen what a shadow answers; let it answer a few callers first, as a ramp does"
    if report.split_alarm:
        return "the variants are not of the planned sizes, so every verdict is void"
    found = [each for each in report.comparisons if each.variant == variant]
    rails = [each for each in report.guardrails if each.variant == variant]
    against = [f"{each.metric}: {each.verdict}" for each in found if each.conclusion == "worse"]
    against += [f"{each.metric}: {each.verdict}" for each in rails if each.conclusion != "holds"]
    if against:
        return "; ".join(against)
    if must_be_better and not any(each.conclusion == "better" for each in found):
        verdicts = "; ".join(f"{each.metric}: {each.verdict}" for each in found) or "no metric was compared"
        return f"it is not shown to be better: {verdicts}"
    return ""
