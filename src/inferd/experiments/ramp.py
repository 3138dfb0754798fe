"""What a ramp does next: a pure decision from where it stands and what the data say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from inferd.experiments.definition import Experiment
from inferd.experiments.guardrail import GuardrailCheck, check_guardrails
from inferd.experiments.statistics.imbalance import ALARM, anytime_imbalance_p
from inferd.experiments.summary import Summary
from inferd.experiments.verdict import percent

Action = Literal["wait", "hold", "advance", "promote", "roll back"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a ramp since it was started: ``units`` of each variant, the sequential p-value of the split, and
    the guardrails. ``unready`` tells why nothing answers for the treated variant; "" when something does."""

    units: Sequence[int]
    split_p: float
    checks: Sequence[GuardrailCheck]
    unready: str = ""


def evidence_of(experiment: Experiment, summary: Summary) -> Evidence:
    """What ``summary`` says of a ramp. Raises ``MissingExtra`` where SciPy is not installed."""
    split_p = anytime_imbalance_p(summary.counts, experiment.shares)
    return Evidence(summary.counts, split_p, check_guardrails(experiment, summary, None))


class Decision(NamedTuple):
    """What to do, and the reason for people."""

    action: Action
    why: str


def decide(experiment: Experiment, step: int, minutes: float, evidence: Evidence) -> Decision:
    """The next move of a ramp that has been at ``step`` for ``minutes``.

    Harm goes first: what is surely broken rolls back or holds. A step then needs its time and its units, and no harm
    seen; promotion needs every guardrail shown to hold.
    """
    broken = [check for check in evidence.checks if check.conclusion == "broken"]
    if fatal := _verdicts(broken, "rollback"):
        return Decision("roll back", fatal)
    if evidence.unready:
        return Decision("hold", evidence.unready)
    if evidence.split_p < ALARM:
        return Decision("hold", f"the variants are not of the planned sizes (p = {evidence.split_p:.2g}); find out why")
    if bad := _verdicts(broken, "hold"):
        return Decision("hold", bad)
    if missing := _missing(experiment, step, minutes, evidence):
        return Decision("wait", missing)
    if step + 1 < len(experiment.steps):
        return Decision("advance", f"no harm was seen at {percent(experiment.steps[step].coverage)} of units")
    open_checks = [check for check in evidence.checks if check.conclusion != "holds" and check.action != "notify"]
    if open_checks:
        return Decision("wait", f"not shown yet: {'; '.join(_said(check) for check in open_checks)}")
    if experiment.ramp is not None and experiment.ramp.finish == "hold":
        return Decision("hold", "every step is done and every guardrail holds; promote it by hand")
    return Decision("promote", "every step is done and every guardrail holds")


def _verdicts(broken: Sequence[GuardrailCheck], action: str) -> str:
    return "; ".join(_said(check) for check in broken if check.action == action)


def _said(check: GuardrailCheck) -> str:
    return f"{check.metric}: {check.verdict}"


def _missing(experiment: Experiment, step: int, minutes: float, evidence: Evidence) -> str:
    """What the step still waits for."""
    wanted = experiment.steps[step]
    if minutes < wanted.minutes:
        return f"{minutes:.3g} of {wanted.minutes:g} minutes have passed"
    fewest = min(evidence.units)
    if fewest < wanted.units:
        return f"{fewest:,} of {wanted.units:,} units have been seen in the smaller variant"
    return ""
