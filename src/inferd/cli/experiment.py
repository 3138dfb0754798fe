"""``inferd experiment``: check, simulate and judge an experiment, see where it sends units, run it on a server."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from inferd.cli import experiment_evaluate, experiment_report, experiment_server, experiment_simulate
from inferd.core.errors import ConfigError


@click.group()
def command() -> None:
    """Check, simulate, run and judge experiments."""


command.add_command(experiment_report.command, "report")
command.add_command(experiment_simulate.command, "simulate")
command.add_command(experiment_evaluate.command, "evaluate")
command.add_command(experiment_server.list_experiments, "list")
for _each in ("show", "create", "change", "start", "advance", "stop", "promote", "archive", "history"):
    command.add_command(getattr(experiment_server, _each), _each)


@command.command(
    epilog="""\b
Examples:
  inferd experiment check ranker.toml
"""
)
@click.argument("file", metavar="EXPERIMENT.toml")
def check(file: str) -> None:
    """Check an experiment's definition; exit code 2, with file, line and the way out, when it is wrong."""
    from inferd.experiments.definition_toml import read_experiment

    experiment = read_experiment(Path(file))
    shares = [step.coverage for step in experiment.steps] or [experiment.coverage]
    coverage = ", ".join(f"{100 * share:.3g}%" for share in shares)
    click.echo(f"{experiment.id}: {coverage} of the units of {experiment.model}, by {experiment.unit}")
    for variant, share in zip(experiment.variants, experiment.shares, strict=True):
        if experiment.shadow is not None and not share:
            sample = f"{100 * experiment.shadow.sample:.3g}%"
            click.echo(f"  {variant.name} (shadow): {sample} of them again by {variant.target}, unseen")
            continue
        role = "control" if variant is experiment.control else "treated"
        click.echo(f"  {variant.name} ({role}): {share:.2%} to {variant.target}")
    if bandit := experiment.bandit:
        rest = f"{100 * bandit.explore:.3g}% always go by these shares, the rest by what is learned of {bandit.reward}"
        click.echo(f"  {bandit.policy}: {rest}")
    for metric in experiment.metrics:
        click.echo(f"  {metric.name}: {metric.kind}, better when it would {metric.goal}")


@command.command(
    epilog="""\b
Examples:
  inferd experiment assign ranker.toml user-1 user-2
  inferd experiment assign ranker.toml user-1 --header 'X-Country: DE' --attribute plan=pro
  inferd experiment assign ranker.toml - < users.txt
"""
)
@click.argument("file", metavar="EXPERIMENT.toml")
@click.argument("units", nargs=-1, required=True, metavar="UNIT...")
@click.option(
    "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header that targeting may ask for."
)
@click.option("--attribute", "attributes", multiple=True, metavar="NAME=VALUE", help="An attribute of the request.")
def assign(file: str, units: tuple[str, ...], headers: tuple[str, ...], attributes: tuple[str, ...]) -> None:
    """Print each UNIT with its variant and target, or why it takes no part; - reads units from stdin, one a line.

    The columns are separated by tabs: unit, variant, target, reason.
    """
    from inferd.experiments.assignment import Assigner
    from inferd.experiments.definition_toml import read_experiment

    experiment = read_experiment(Path(file))
    if experiment.bandit is not None:
        raise ConfigError(
            f"{file}: a bandit chooses by what it has learned; inferd experiment show asks a server for that"
        )
    assigner = Assigner(experiment)
    named_headers = {name.lower(): value for name, value in _pairs(headers, ":", "--header")}
    named_attributes = dict(_pairs(attributes, "=", "--attribute"))
    for unit in sys.stdin.read().splitlines() if units == ("-",) else units:
        assignment = assigner.assign(unit, named_headers, named_attributes)
        variant = assignment.variant
        click.echo("\t".join([unit, *((variant.name, variant.target) if variant else ("", "")), assignment.reason]))


def _pairs(texts: tuple[str, ...], separator: str, option: str) -> list[tuple[str, str]]:
    for text in texts:
        if separator not in text:
            raise click.BadParameter(f"takes NAME{separator}VALUE, got {text!r}", param_hint=option)
    parts = (text.partition(separator) for text in texts)
    return [(name.strip(), value.strip()) for name, _, value in parts]
