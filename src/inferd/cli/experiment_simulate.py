"""``inferd experiment simulate``: try the report's promises on one's own traffic before trusting it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from inferd.cli.bandit_simulate import print_bandit_trials

if TYPE_CHECKING:
    from inferd.experiments.bandits.simulation import BanditTrials
    from inferd.experiments.columns import Columns
    from inferd.experiments.definition import Experiment
    from inferd.experiments.population import Population
    from inferd.experiments.simulation import MetricTrial, Rate, Traffic, Trials


@click.command(
    epilog="""\b
Examples:
  inferd experiment simulate ranker.toml --units-per-day 1000 --days 14
  inferd experiment simulate ranker.toml --units-per-day 1000 --lift 0.1 --runs 500
  inferd experiment simulate ranker.toml --units-per-day 1000 --log log.csv
"""
)
@click.argument("file", metavar="EXPERIMENT.toml")
@click.option("--units-per-day", type=click.IntRange(1, 10**9), required=True, help="Units that enter the experiment.")
@click.option("--days", type=click.FloatRange(0.1, 3650), default=14, show_default=True, help="How long it runs.")
@click.option("--lift", type=click.FloatRange(-0.99, 100), default=0.05, show_default=True, help="Change to plant.")
@click.option("--peeks", type=click.IntRange(1, 1000), default=100, show_default=True, help="Looks at each run.")
@click.option("--runs", type=click.IntRange(10, 100_000), default=2000, show_default=True, help="Runs of each kind.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed gives the same runs.")
@click.option("--log", metavar="LOG.csv", help="Draw units from the control of this log, not from made-up ones.")
@click.option(
    "--delay", type=click.FloatRange(0, 3650), default=0, show_default=True, help="Days until a bandit knows a reward."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    file: str,
    units_per_day: int,
    days: float,
    lift: float,
    peeks: int,
    runs: int,
    seed: int,
    log: str | None,
    delay: float,
    as_json: bool,
) -> None:
    """Run an experiment many times, with and without a difference, and count what the report gets right.

    Units are made up from each metric's baseline (and deviation) in the definition, or drawn from a log. Exit code 1
    when a promise is broken beyond what chance explains. Of a bandit it is counted what it loses while it learns, at as
    many looks as there are peeks.
    """
    from inferd.experiments.definition_toml import read_experiment
    from inferd.experiments.simulation import Traffic, Trials

    experiment = read_experiment(Path(file))
    populations = _populations(experiment, log, seed)
    traffic = Traffic(units_per_day, days, peeks, runs, seed)
    trials: Trials | BanditTrials
    if experiment.bandit is not None:
        trials = _simulate_bandit(experiment, populations, traffic, lift, delay)
    else:
        trials = _simulate(experiment, populations, traffic, lift)
    if as_json:
        import orjson

        click.echo(orjson.dumps(trials, option=orjson.OPT_INDENT_2).decode())
    elif isinstance(trials, Trials):
        _print(trials)
    else:
        print_bandit_trials(trials)
    if not trials.sound:
        raise click.exceptions.Exit(1)


def _populations(experiment: Experiment, log: str | None, seed: int) -> dict[str, Population]:
    """Whom to draw from, for each metric but quantiles, whose bootstrap would take hours."""
    import numpy as np

    from inferd.core.errors import ConfigError
    from inferd.experiments.columns_csv import read_csv_columns
    from inferd.experiments.population import made_up, of_log

    metrics = [metric for metric in experiment.metrics if metric.kind != "quantile"]
    if experiment.bandit is not None:
        metrics = [metric for metric in metrics if metric.name == experiment.bandit.reward]
    if not metrics:
        raise ConfigError("the definition has no metric to simulate: a mean, a proportion or a ratio")
    columns: Columns | None = read_csv_columns([Path(log)], experiment) if log else None
    rng = np.random.default_rng(seed)
    return {metric.name: of_log(metric, columns) if columns else made_up(metric, rng) for metric in metrics}


def _simulate(experiment: Experiment, populations: dict[str, Population], traffic: Traffic, lift: float) -> Trials:
    from rich.console import Console
    from rich.progress import Progress

    from inferd.experiments.simulation import simulate

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("simulating", total=traffic.runs * len(populations))
        return simulate(experiment, populations, traffic, lift, lambda runs: bar.advance(task, runs))


def _simulate_bandit(
    experiment: Experiment, populations: dict[str, Population], traffic: Traffic, lift: float, delay_days: float
) -> BanditTrials:
    from rich.console import Console
    from rich.progress import Progress

    from inferd.experiments.bandits.simulation import simulate_bandit

    (population,) = populations.values()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("simulating", total=traffic.runs)
        return simulate_bandit(experiment, population, traffic, lift, delay_days, lambda runs: bar.advance(task, runs))


def _print(trials: Trials) -> None:
    traffic = trials.traffic
    click.echo(
        f"{trials.experiment}: {traffic.runs:,} runs of {traffic.units:,} units in {traffic.days:g} days, "
        f"{traffic.looks} looks at each, seed {traffic.seed}"
    )
    for trial in trials.metrics:
        _print_trial(trial, trials.alpha)
    click.echo("\nsplit test")
    click.echo(f"  52 to 48 of 20,000 units, found:          {_rate(trials.split.found)}")
    click.echo(f"  split as planned, alarm all the same:     {_rate(trials.split.false)}")
    kept = "kept" if trials.sound else "BROKEN: do not trust the report on this traffic; a larger tuning_units may help"
    click.echo(f"\nthe promises are {kept}")


def _print_trial(trial: MetricTrial, alpha: float) -> None:
    click.echo(f"\n{trial.metric}: {trial.control:.4g} in control")
    click.echo("  no difference planted, one found")
    click.echo(
        f"    anytime-valid, looking all the time:    {_rate(trial.false_anytime)}, promised at most {alpha:.0%}"
    )
    click.echo(f"    fixed-horizon, looking all the time:    {_rate(trial.false_peeking)}, which is why not to")
    click.echo(f"    fixed-horizon, one look at the end:     {_rate(trial.false_planned)}, promised {alpha:.0%}")
    click.echo(f"  {trial.lift:+.1%} planted, found")
    days = "" if trial.median_days is None else f", half of them by day {trial.median_days:.1f}"
    click.echo(f"    anytime-valid, looking all the time:    {_rate(trial.found_anytime)}{days}")
    click.echo(f"    fixed-horizon, one look at the end:     {_rate(trial.found_planned)}")
    click.echo("  the interval held the truth")
    click.echo(f"    anytime-valid, at every look:           {_rate(trial.covered_anytime)}, promised {1 - alpha:.0%}")
    click.echo(f"    fixed-horizon, at the end:              {_rate(trial.covered_planned)}, promised {1 - alpha:.0%}")


def _rate(rate: Rate) -> str:
    return f"{rate.share:6.1%}"
