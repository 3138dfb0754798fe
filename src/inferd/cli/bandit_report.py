"""Print what a report tells of a bandit alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from inferd.cli.experiment_evaluate import print_policy

if TYPE_CHECKING:
    from inferd.experiments.bandits.report import BanditReport


def print_bandit(report: BanditReport) -> None:
    """Its variants, and what policies would have earned."""
    days = "" if report.days is None else f", {report.days:,.1f} days"
    click.echo(f"{report.experiment}: {report.predictions:,} predictions{days}; {report.reward} of {report.rewards:,}")
    for each in report.variants:
        average = "" if each.average is None else f", {each.average:.5g} on average"
        told = f"{each.predictions:,} predictions, {each.share:.2%}; {each.rewards:,} rewards{average}"
        click.echo(f"  {each.name}: {told}")
    click.echo("  shares follow rewards, so these averages cannot be compared; what follows weighs them")
    if report.split_alarm:
        lost = "rewards of some variant are lost more often than another's, or propensities are wrong"
        click.echo(f"  NOT as decided: {lost} (p = {report.split_p:.2g})")
    click.echo(f"\nwhat policies would have earned a prediction in {report.reward}")
    for policy in report.policies:
        print_policy(policy, 1 - report.alpha)
    if report.gain is not None and report.earned is not None:
        low, high = report.gain.anytime.low, report.gain.anytime.high
        click.echo(f"\nearned {report.earned:.5g} each, {report.gain.mean:+.5g} beside the weights")
        click.echo(f"  anytime-valid {1 - report.alpha:.0%} interval {low:+.5g} to {high:+.5g}")
