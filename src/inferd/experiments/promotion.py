"""Whether a report is reason enough to give a variant to everyone."""

from __future__ import annotations

from inferd.experiments.report import Report


def why_not(report: Report, variant: str, *, is_control: bool) -> str:
    """What speaks against promoting ``variant``; "" when nothing does.

    A treated variant must be better in a metric, worse in none, and inside every guardrail, on a split as it was
    planned. The control may always be kept.
    """
    if is_control:
        return ""
    if report.split_alarm:
        return "the variants are not of the planned sizes, so every verdict is void"
    found = [each for each in report.comparisons if each.variant == variant]
    rails = [each for each in report.guardrails if each.variant == variant]
    against = [f"{each.metric}: {each.verdict}" for each in found if each.conclusion == "worse"]
    against += [f"{each.metric}: {each.verdict}" for each in rails if each.conclusion != "holds"]
    if against:
        return "; ".join(against)
    if not any(each.conclusion == "better" for each in found):
        verdicts = "; ".join(f"{each.metric}: {each.verdict}" for each in found) or "no metric was compared"
        return f"it is not shown to be better: {verdicts}"
    return ""
