"""``inferd experiment report``: judge an experiment by a log of exposures and outcomes, or ask a running server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inferd.cli.bandit_report import print_bandit
from inferd.cli.experiment_server import path_of
from inferd.cli.models import ask, server_options
from inferd.cli.shadow_report import print_shadow, print_shadow_report
from inferd.core.errors import ConfigError

if TYPE_CHECKING:
    from inferd.experiments.answers import AnswerComparison
    from inferd.experiments.bandits.report import BanditReport
    from inferd.experiments.comparison import Estimate, Interval
    from inferd.experiments.report import Comparison, Report
    from inferd.experiments.shadow_report import ShadowReport

_OPEN = ("too early", "no decision yet")
"""Conclusions after which it matters how much is left to wait for."""


@click.command(
    epilog="""\b
Examples:
  inferd experiment report log.csv --definition ranker.toml
  inferd experiment report monday.csv tuesday.csv --definition ranker.toml --html report.html
  inferd experiment report log.csv --definition ranker.toml --json | jq .comparisons
  inferd experiment report --experiment ranker-2 --url https://models.example
"""
)
@click.argument("logs", metavar="[LOG.csv...]", nargs=-1)
@click.option("--definition", metavar="EXPERIMENT.toml", help="The definition of the logs' experiment.")
@click.option("--experiment", metavar="ID", help="Ask a running server about this experiment, in place of logs.")
@click.option("--html", metavar="FILE", help="Also write the report as an HTML page with drawings.")
@server_options
def command(
    logs: tuple[str, ...],
    definition: str | None,
    experiment: str | None,
    html: str | None,
    url: str,
    api_key: str,
    as_json: bool,
) -> None:
    """Judge an experiment by the exposures and outcomes in LOG.csv, or by what a running server has of them.

    Each row of a log names a unit and its variant, and holds the metrics' columns; a unit may have many rows. An empty
    cell means no outcome. A column timestamp (ISO 8601, or seconds since 1970) lets the report say how many days are
    left.
    """
    if (experiment is None) == (not logs) or (definition is None) != (not logs):
        raise click.UsageError("give either LOG.csv with --definition, or --experiment of a running server")
    found: Report | ShadowReport | BanditReport
    if experiment is not None:
        found = _asked(experiment, url, api_key)
    else:
        found = _judged([Path(log) for log in logs], Path(definition or ""))
    if html:
        from inferd.experiments.report_html import report_html

        Path(html).write_text(report_html(found), encoding="utf-8")
        click.echo(f"wrote {html}", err=True)
    if as_json:
        import orjson

        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(found)


def _print(found: Report | ShadowReport | BanditReport) -> None:
    from inferd.experiments.bandits.report import BanditReport
    from inferd.experiments.shadow_report import ShadowReport

    if isinstance(found, ShadowReport):
        print_shadow_report(found)
        return
    if isinstance(found, BanditReport):
        print_bandit(found)
    else:
        _print_counts(found)
    for comparison in found.comparisons:
        _print_comparison(comparison, 1 - found.alpha, found.correction)
    for check in found.guardrails:
        click.echo(f"\nguardrail {check.metric}, {check.variant}: {check.verdict}")
    if found.automatic:
        click.echo("\nof every prediction, without feedback")
    for each in found.automatic:
        click.echo(f"  {each.metric}, {each.variant}: {_sides(each.estimate)}; {each.verdict}")
    if not isinstance(found, BanditReport):
        _print_answers(found)
    for shadow in found.shadows:
        print_shadow(shadow, 1 - found.alpha)


def _judged(logs: Sequence[Path], definition: Path) -> Report:
    from inferd.experiments.columns_csv import read_csv_columns
    from inferd.experiments.definition_toml import read_experiment
    from inferd.experiments.report import report
    from inferd.experiments.summary import summarise

    experiment = read_experiment(definition)
    if experiment.mode == "shadow":
        raise ConfigError(f"{definition}: nobody sees a shadow, so no log tells of one; --experiment asks a server")
    if experiment.mode == "bandit":
        raise ConfigError(f"{definition}: of a bandit a log tells more to inferd experiment evaluate, which weighs it")
    return report(experiment, summarise(experiment, read_csv_columns(logs, experiment)))


def _asked(experiment: str, url: str, api_key: str) -> Report | ShadowReport | BanditReport:
    from pydantic import TypeAdapter, ValidationError

    from inferd.experiments.bandits.report import BanditReport
    from inferd.experiments.report import Report
    from inferd.experiments.shadow_report import ShadowReport

    answer = ask(url, api_key, "GET", f"{path_of(experiment)}/report")
    kinds: dict[str, type[Report | ShadowReport | BanditReport]] = {"shadow": ShadowReport, "bandit": BanditReport}
    try:
        return TypeAdapter(kinds.get(answer.get("mode"), Report)).validate_python(answer)
    except ValidationError:
        raise ConfigError(f"the report of {url} is not one that this inferd reads; is it of another release?") from None


def _print_counts(report: Report) -> None:
    days = "" if report.days is None else f", {report.days:,.1f} days"
    click.echo(f"{report.experiment}: {report.units:,} units{days}")
    for variant in report.variants:
        click.echo(f"  {variant.name}: {variant.units:,} units, {variant.share:.2%} (planned {variant.planned:.2%})")
    click.echo(f"  split {'NOT ' if report.split_alarm else ''}as planned: p = {report.split_p:.2g}")
    if report.crossed_units:
        click.echo(f"  {report.crossed_units:,} units were seen in several variants and are left out")


def _print_answers(report: Report) -> None:
    for answers in report.answers:
        click.echo(f"  {answers.kind}s, {answers.variant}: {_distance(answers)}")
        for share in answers.shares:
            click.echo(f"    {share.label}: control {share.control:.1%}, {answers.variant} {share.treated:.1%}")


def _print_comparison(comparison: Comparison, level: float, correction: str) -> None:
    found = comparison.estimate
    click.echo(f"\n{comparison.metric} ({comparison.kind}), {comparison.variant} against control")
    click.echo(f"  {comparison.verdict}")
    click.echo(f"  control {_number(found.control)} of {found.control_units:,} units")
    click.echo(f"  {comparison.variant} {_number(found.treated)} of {found.treated_units:,} units")
    if found.delta is None:
        return
    share = "" if found.relative is None else f", {found.relative:+.2%} of control"
    click.echo(f"  difference {found.delta:+.5g}{share}")
    _print_interval("anytime-valid", level, found.anytime, found.relative_anytime, found.anytime_p)
    _print_interval("fixed-horizon", level, found.fixed, found.relative_fixed, found.fixed_p)
    if comparison.corrected_p is not None and correction != "none":
        click.echo(f"  p corrected for all comparisons ({correction}): {comparison.corrected_p:.2g}")
    _print_reach(comparison, found)


def _print_interval(name: str, level: float, ends: Interval | None, shares: Interval | None, p: float | None) -> None:
    if ends is None:
        return
    relative = "" if shares is None else f" ({shares.low:+.2%} to {shares.high:+.2%})"
    click.echo(f"  {name} {level:.0%} interval {ends.low:+.5g} to {ends.high:+.5g}{relative}, p = {p:.2g}")


def _print_reach(comparison: Comparison, found: Estimate) -> None:
    if found.variance_saved is not None:
        click.echo(f"  the covariate took away {found.variance_saved:.0%} of the variance")
    if comparison.conclusion not in _OPEN:
        return
    if found.power is not None:
        click.echo(f"  power for the smallest change worth finding: {found.power:.0%} at a planned look")
    if comparison.units_left is not None:
        days = "" if comparison.days_left is None else f", {comparison.days_left:,.1f} days at this pace"
        click.echo(f"  units left to find it at any time: {comparison.units_left:,}{days}")


def _sides(found: Estimate) -> str:
    return f"control {_number(found.control)}, treated {_number(found.treated)}"


def _distance(answers: AnswerComparison) -> str:
    relation = "more" if answers.differs else "not more"
    return (
        f"{answers.distance:.3f} apart from control's, {relation} than the {answers.by_chance:.3f} that chance explains"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"
