"""``inferd experiment evaluate``: what other policies would have earned on the same requests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from inferd.core.errors import ConfigError
from inferd.core.schema import suggestion

if TYPE_CHECKING:
    import numpy as np

    from inferd.experiments.bandits.decisions import Decisions
    from inferd.experiments.bandits.evaluation import PolicyValue, Value
    from inferd.experiments.definition import Experiment, Metric


@click.command(
    epilog="""\b
Examples:
  inferd experiment evaluate log.csv --definition ranker.toml
  inferd experiment evaluate --store sqlite:///experiments.db --experiment ranker-2
  inferd experiment evaluate log.csv --definition ranker.toml --policy control=0.2,candidate=0.8
"""
)
@click.argument("logs", metavar="[LOG.csv...]", nargs=-1, type=click.Path(exists=True, dir_okay=False))
@click.option("--definition", metavar="EXPERIMENT.toml", help="The definition of the logs' experiment.")
@click.option("--store", metavar="URL", help="The database of experiments, in place of logs.")
@click.option("--experiment", metavar="ID", help="The experiment in the store.")
@click.option("--reward", metavar="METRIC", help="What is earned.  [default: the bandit's reward]")
@click.option(
    "--policy", "policies", multiple=True, metavar="NAME=SHARE,...", help="Also one that chooses by these shares."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    logs: tuple[str, ...],
    definition: str | None,
    store: str | None,
    experiment: str | None,
    reward: str | None,
    policies: tuple[str, ...],
    as_json: bool,
) -> None:
    """Estimate what each variant alone, or another policy, would have earned a prediction.

    Each row of a log names its variant and the propensity, the chance with which that was chosen, and holds the reward
    in its metric's column; an empty cell is a reward that is not known. Columns unit, timestamp and those of the
    context are read where they are there. A store has the same of every experiment that a server ran, bandit or not.
    """
    if bool(logs) == (store is not None) or bool(logs) != bool(definition) or bool(store) != bool(experiment):
        raise click.UsageError("give either LOG.csv with --definition, or --store with --experiment")
    from inferd.experiments.bandits.evaluation import Evaluation, named_policies

    found = _stored(store, experiment) if store and experiment else _defined(Path(definition or ""))
    metric = _reward(found, reward)
    decisions = _decisions(found, metric, logs, store)
    evaluation = Evaluation(found, decisions.told(metric.name), metric.name)
    asked = {each: _target(found, each) for each in policies}
    values = [evaluation.value(name, target) for name, target in {**named_policies(found), **asked}.items()]
    if as_json:
        import orjson

        answer = {"experiment": found.id, "reward": metric.name, "rewards": int(evaluation.counts.sum())}
        known = {"predictions": len(decisions.arm), "earned": evaluation.earned, "alpha": found.analysis.alpha}
        click.echo(orjson.dumps({**answer, **known, "policies": values}, option=orjson.OPT_INDENT_2).decode())
        return
    earned = "" if evaluation.earned is None else f", {evaluation.earned:.5g} each as it was decided"
    told = f"{metric.name} of {int(evaluation.counts.sum()):,} of {len(decisions.arm):,} predictions"
    click.echo(f"{found.id}: {told}{earned}")
    for value in values:
        print_policy(value, 1 - found.analysis.alpha)


def print_policy(found: PolicyValue, level: float) -> None:
    """What one policy would have earned."""
    click.echo(f"\n{found.policy}")
    if found.weighted is None or found.normalised is None or found.robust is None:
        click.echo("  too early: a variant that it chooses has too few rewards, or may be chosen too rarely")
        return
    _print_value("by inverse propensities", found.weighted, level)
    _print_value("the same, normalised", found.normalised, level)
    _print_value("doubly robust", found.robust, level)


def _print_value(name: str, value: Value, level: float) -> None:
    fixed, anytime = value.fixed, value.anytime
    planned = f"fixed-horizon {fixed.low:.5g} to {fixed.high:.5g}"
    always = f"anytime-valid {level:.0%} interval {anytime.low:.5g} to {anytime.high:.5g}"
    click.echo(f"  {name + ':':<25}{value.mean:.5g}, {always}, {planned}")


def _defined(definition: Path) -> Experiment:
    from inferd.experiments.definition_toml import read_experiment

    return read_experiment(definition)


def _stored(store: str, experiment: str) -> Experiment:
    from inferd.experiments.database import open_database
    from inferd.experiments.definition_store import DefinitionStore
    from inferd.experiments.definition_toml import experiment_of

    known = {each.id: each for each in DefinitionStore(open_database(store)).all()}
    if experiment not in known:
        raise ConfigError(f"the store has no experiment {experiment!r}{suggestion(experiment, list(known))}")
    return experiment_of(known[experiment].values)


def _reward(experiment: Experiment, name: str | None) -> Metric:
    from inferd.experiments.bandits.report import compared_metrics

    if name is None and experiment.bandit is None:
        raise click.UsageError("say with --reward which metric is earned; the experiment is no bandit")
    wanted = name or (experiment.bandit.reward if experiment.bandit else "")
    metrics = {metric.name: metric for metric in compared_metrics(experiment)}
    if wanted not in metrics:
        raise ConfigError(f"{wanted!r} is no mean or proportion of the experiment{suggestion(wanted, list(metrics))}")
    return metrics[wanted]


def _decisions(experiment: Experiment, metric: Metric, logs: tuple[str, ...], store: str | None) -> Decisions:
    if store is not None:
        from inferd.experiments.store import Store

        return Store.open(store).decisions(experiment, [metric])
    from inferd.experiments.bandits.decisions_csv import read_csv_decisions

    return read_csv_decisions([Path(log) for log in logs], experiment, metric)


def _target(experiment: Experiment, policy: str) -> np.ndarray:
    """The chances that ``policy``, as ``control=0.2,candidate=0.8``, gives each variant."""
    import numpy as np

    arms = {variant.name: arm for arm, variant in enumerate(experiment.variants)}
    found = np.zeros(len(arms))
    for part in policy.split(","):
        name, _, share = part.strip().partition("=")
        if name not in arms:
            raise ConfigError(f"--policy {policy}: {name!r} is no variant{suggestion(name, list(arms))}")
        try:
            found[arms[name]] = float(share)
        except ValueError:
            raise ConfigError(f"--policy {policy}: {share!r} is no share; write {name}=0.5") from None
    if not ((found >= 0).all() and abs(found.sum() - 1) < 1e-9):
        raise ConfigError(f"--policy {policy}: shares are not below 0 and add up to 1")
    return found
