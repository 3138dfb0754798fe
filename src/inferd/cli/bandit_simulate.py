"""Print what a simulation tells of a bandit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from inferd.experiments.bandits.simulation import BanditTrials
    from inferd.experiments.simulation import Rate


def print_bandit_trials(trials: BanditTrials) -> None:
    """What was lost, and what the estimates were worth."""
    traffic = trials.traffic
    late = f", rewards known {trials.delay_days:g} days later" if trials.delay_days else ""
    click.echo(
        f"{trials.experiment}: {traffic.runs:,} runs of {traffic.units:,} units in {traffic.days:g} days, "
        f"{traffic.looks} looks at each{late}, seed {traffic.seed}"
    )
    where = ", where the context says so and less elsewhere" if trials.policy == "linucb" else ""
    click.echo(
        f"\n{trials.policy} on {trials.reward}: {trials.control:.4g} in control, {trials.lift:+.1%} planted{where}"
    )
    click.echo(f"  lost to always choosing the best:     {trials.regret:.5g} a run")
    click.echo(f"  the same, always by the weights:      {trials.regret_by_weights:.5g}")
    click.echo(f"  the best one at the end:              {trials.best_at_the_end:.1%} of units")
    click.echo("  the interval held what a variant earns")
    level = f"{1 - trials.alpha:.0%}"
    click.echo(f"    by inverse propensities:            {_rate(trials.covered_weighted)}, promised {level}")
    click.echo(f"    the same, normalised:               {_rate(trials.covered_normalised)}, promised {level}")
    click.echo(f"    doubly robust:                      {_rate(trials.covered_robust)}, promised {level}")
    click.echo(f"    doubly robust, anytime-valid:       {_rate(trials.covered_anytime)}, promised at least {level}")
    click.echo(f"\nthe promises are {'kept' if trials.sound else 'BROKEN: do not trust the bandit on this traffic'}")


def _rate(rate: Rate) -> str:
    return f"{rate.share:.1%}"
