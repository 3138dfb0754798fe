"""``inferd experiment list``, ``create``, ``stop``…: see and change the experiments of a running server."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from inferd.cli.models import ask, server_options

_ALL = "/admin/experiments"


@click.command()
@click.option("--archived", is_flag=True, help="Archived ones too.")
@server_options
def list_experiments(archived: bool, url: str, api_key: str, as_json: bool) -> None:
    """Every experiment of a running server and where it stands."""
    answer = ask(url, api_key, "GET", f"{_ALL}?archived={str(archived).lower()}")
    if as_json:
        click.echo(json.dumps(answer))
        return
    for each in answer["experiments"]:
        _line(each)


@click.command()
@click.argument("experiment")
@server_options
def show(experiment: str, url: str, api_key: str, as_json: bool) -> None:
    """One experiment of a running server, its variants and their counts."""
    _show(ask(url, api_key, "GET", path_of(experiment)), as_json)


@click.command(
    epilog="""\b
Examples:
  inferd experiment create ranker.toml --start
"""
)
@click.argument("file", metavar="EXPERIMENT.toml")
@click.option("--start", is_flag=True, help="Run it at once.")
@server_options
def create(file: str, start: bool, url: str, api_key: str, as_json: bool) -> None:
    """Define an experiment on a running server, which keeps it."""
    path = f"{_ALL}?start={str(start).lower()}"
    _show(ask(url, api_key, "POST", path, _values(file)), as_json)


@click.command()
@click.argument("file", metavar="EXPERIMENT.toml")
@click.option("--version", type=click.IntRange(min=1), required=True, help="The version that the file was made from.")
@server_options
def change(file: str, version: int, url: str, api_key: str, as_json: bool) -> None:
    """Replace the definition that a running server keeps by the one in a file."""
    values = _values(file)
    _show(ask(url, api_key, "PUT", path_of(values["id"]), {**values, "version": version}), as_json)


@click.command()
@click.argument("experiment")
@server_options
def start(experiment: str, url: str, api_key: str, as_json: bool) -> None:
    """Run an experiment of a running server, for the first time or again."""
    _show(ask(url, api_key, "POST", f"{path_of(experiment)}/start"), as_json)


@click.command()
@click.argument("experiment")
@server_options
def advance(experiment: str, url: str, api_key: str, as_json: bool) -> None:
    """Let a ramp go on to its next step now, whatever it waits for."""
    _show(ask(url, api_key, "POST", f"{path_of(experiment)}/advance"), as_json)


@click.command()
@click.argument("experiment")
@click.option("--why", default="", help="A reason, kept in the history.")
@server_options
def stop(experiment: str, why: str, url: str, api_key: str, as_json: bool) -> None:
    """The kill switch: everyone gets the model's usual version, until it is started again."""
    _show(ask(url, api_key, "POST", f"{path_of(experiment)}/stop?why={quote(why)}"), as_json)


@click.command(
    epilog="""\b
Examples:
  inferd experiment promote ranker-2 candidate --label stable
"""
)
@click.argument("experiment")
@click.argument("variant")
@click.option("--label", default="", help="The model's label to move to its version. [default: serve it alone]")
@click.option("--force", is_flag=True, help="Do so although the report does not say that it is better.")
@server_options
def promote(experiment: str, variant: str, label: str, force: bool, url: str, api_key: str, as_json: bool) -> None:
    """Give a variant's version to everyone, and end the experiment.

    Refused, unless forced, while the report does not find the variant better, finds it worse in a metric, or does not
    find it inside every guardrail.
    """
    body = {"variant": variant, "label": label, "force": force}
    answer = ask(url, api_key, "POST", f"{path_of(experiment)}/promote", body)
    if as_json:
        click.echo(json.dumps(answer))
        return
    click.echo(f"{variant} (version {answer['version']}) now goes to {f'label {label}' if label else 'everyone'}")
    if answer["forced"]:
        click.echo(f"against the report: {answer['against']}", err=True)


@click.command()
@click.argument("experiment")
@server_options
def archive(experiment: str, url: str, api_key: str, as_json: bool) -> None:
    """End an experiment for good; its report and history stay."""
    _show(ask(url, api_key, "DELETE", path_of(experiment)), as_json)


@click.command()
@click.argument("experiment")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@server_options
def history(experiment: str, limit: int, url: str, api_key: str, as_json: bool) -> None:
    """What changed in an experiment, by whom and why; the latest first."""
    answer = ask(url, api_key, "GET", f"{path_of(experiment)}/history?limit={limit}")
    if as_json:
        click.echo(json.dumps(answer))
        return
    for each in answer["history"]:
        at = datetime.fromtimestamp(each["at_ms"] / 1000).isoformat(" ", "seconds")
        parts = (at, f"version {each['version']}", each["what"], each["who"], each["why"])
        click.echo("  ".join(part for part in parts if part))
        if each["what"] in ("changed", "learned"):
            for key in sorted({*each["from"], *each["to"]}):
                click.echo(f"    {key}: {json.dumps(each['from'].get(key))} -> {json.dumps(each['to'].get(key))}")


def _values(file: str) -> dict[str, Any]:
    from inferd.experiments.definition_toml import read_experiment, values_of

    return values_of(read_experiment(Path(file)))


def path_of(experiment: str) -> str:
    """Where a server's routes of ``experiment`` begin."""
    return f"{_ALL}/{quote(experiment, safe='')}"


def _line(entry: dict[str, Any]) -> None:
    parts = (
        entry["id"],
        f"version {entry['version']}",
        entry["state"],
        f"on {entry['model']}",
        f"in {entry['defined_in']}",
        entry.get("reason", ""),
    )
    click.echo("  ".join(part for part in parts if part))


def _show(entry: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(entry))
        return
    _line(entry)
    if ramp := entry.get("ramp"):
        since = datetime.fromtimestamp(ramp["step_since_ms"] / 1000).isoformat(" ", "seconds")
        click.echo(f"  step {ramp['step']} of {ramp['steps']} since {since}, {100 * entry['coverage']:.3g}% of units")
    learned = entry.get("bandit", {}).get("learned", {})
    shadows = entry.get("shadows", {})
    for each in entry["variants"]:
        if each["share"]:
            fallbacks = f", {each['fallbacks']:,} got control instead" if each["fallbacks"] else ""
            requests = f"{each['requests']:,} requests{fallbacks}"
            if reward := learned.get(each["name"]):
                requests += f", {reward['average']:.5g} on average of {reward['rewards']:,} rewards"
            click.echo(f"  {each['name']}: {each['share']:.2%} to {each['target']}, {requests}")
        if counts := shadows.get(each["name"]):
            told = ", ".join(f"{count:,} {result}" for result, count in counts.items() if count)
            click.echo(f"  {each['name']} ({each['target']}) beside control: {told or 'nothing yet'}")
