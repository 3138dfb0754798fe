"""What is wrong with an experiment whose keys are all of the right kind: names, weights, and parts that must agree."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

from inferd.core.errors import ConfigError
from inferd.core.schema import suggestion
from inferd.core.toml_file import KeyPath, TomlFile, dotted
from inferd.experiments.assignment import BUCKETS, bounds
from inferd.experiments.automatic import DISAGREEMENT, automatic_metrics, measured
from inferd.experiments.definition import Bandit, Experiment

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
LABEL = re.compile(rf"(?=.*[^0-9]){NAME.pattern}")
WEBHOOK = re.compile(r"https?://[^\s/]+\S*")
_TARGET = re.compile(rf"{NAME.pattern}(@{NAME.pattern})?")
_CONTEXT = re.compile(r"(header|parameter):[!-~]+")
_MOST_CONTEXT = 50
_UNIT = re.compile(r"(header|cookie|parameter):[!-~]+|api-key|request-id")


def check(document: TomlFile, experiment: Experiment) -> None:
    """Raise ``ConfigError`` naming the key of ``document`` that makes no sense in ``experiment``, and the way out."""
    for each in (
        _check_plain,
        _check_variants,
        _check_targeting,
        _check_metrics,
        _check_guardrails,
        _check_ramp,
        _check_shadow,
        _check_bandit,
    ):
        each(document, experiment)


def refusal(document: TomlFile, at: KeyPath, why: str) -> ConfigError:
    """``why`` the key at that place is refused."""
    return ConfigError(f"{document.where(*at)}: {dotted(at)} {why}")


def _check_plain(document: TomlFile, experiment: Experiment) -> None:
    for key in ("id", "model"):
        if not NAME.fullmatch(getattr(experiment, key)):
            raise refusal(document, (key,), "takes letters, digits, '.', '_' and '-', at most 128")
    if not _UNIT.fullmatch(experiment.unit):
        accepted = "header:NAME, cookie:NAME, parameter:NAME, api-key or request-id"
        raise refusal(document, ("unit",), f"takes {accepted}, got {experiment.unit!r}")
    if "\0" in experiment.salt or not experiment.salt:
        raise refusal(document, ("salt",), "takes a text without NUL characters that is not empty")
    space = experiment.namespace
    if space is not None and space.start >= space.end:
        raise refusal(document, ("namespace",), f"is empty: start {space.start:g} is not below end {space.end:g}")


def _check_variants(document: TomlFile, experiment: Experiment) -> None:
    variants = experiment.variants
    if len(variants) < 2:
        raise ConfigError(f"{document.where('variant')}: an experiment compares at least two variants")
    _refuse_twins(document, "variant", (variant.name for variant in variants))
    limits = [0, *bounds(replace(experiment, mode="fixed"))]
    for i, variant in enumerate(variants):
        if not NAME.fullmatch(variant.name):
            raise refusal(document, ("variant", i, "name"), "takes letters, digits, '.', '_' and '-', at most 128")
        if not _TARGET.fullmatch(variant.target):
            raise refusal(document, ("variant", i, "target"), f"takes model or model@version, got {variant.target!r}")
        if limits[i] == limits[i + 1]:
            raise refusal(
                document, ("variant", i), f"has so little weight that none of the {BUCKETS} buckets is its own"
            )


def _check_targeting(document: TomlFile, experiment: Experiment) -> None:
    for i, rule in enumerate(experiment.targeting):
        if bool(rule.header) == bool(rule.attribute):
            raise refusal(document, ("targeting", i), "names either a header or an attribute")
        if not rule.one_of:
            raise refusal(document, ("targeting", i, "one_of"), "is empty: nobody would take part")


def _check_metrics(document: TomlFile, experiment: Experiment) -> None:
    metrics = experiment.metrics
    names = [metric.name for metric in metrics]
    _refuse_twins(document, "metric", names)
    for i, metric in enumerate(metrics):
        if (metric.kind == "ratio") != bool(metric.denominator):
            raise refusal(document, ("metric", i), "needs a denominator if, and only if, its kind is ratio")
        if metric.kind == "quantile" and metric.covariate:
            raise refusal(document, ("metric", i, "covariate"), "cannot sharpen a quantile; leave it out")
        if metric.kind == "proportion" and not 0 < (0.5 if metric.baseline is None else metric.baseline) < 1:
            raise refusal(document, ("metric", i, "baseline"), "of a proportion lies between 0 and 1")


def _check_guardrails(document: TomlFile, experiment: Experiment) -> None:
    names = [metric.name for metric in measured(experiment)]
    own = [metric.name for metric in experiment.metrics]
    for i, rail in enumerate(experiment.guardrails):
        if rail.metric not in names:
            known = suggestion(rail.metric, names)
            raise refusal(document, ("guardrail", i, "metric"), f"is no metric: {rail.metric!r}{known}")
        if (rail.margin is None) == (rail.limit is None):
            raise refusal(document, ("guardrail", i), "gives either a margin, relative to control, or a limit")
        if rail.metric == DISAGREEMENT and rail.metric not in own and rail.limit is None:
            raise refusal(document, ("guardrail", i, "margin"), "means nothing where control has no part; give a limit")


def _check_ramp(document: TomlFile, experiment: Experiment) -> None:
    ramp = experiment.ramp
    if experiment.mode != "ramp":
        for key in ("ramp", "step"):
            if key in document.values:
                raise refusal(document, (key,), 'goes with mode = "ramp"')
    if ramp is None:
        return
    if not experiment.steps:
        raise ConfigError(f"{document.where('mode')}: a ramp needs [[step]]s, each with the coverage it goes to")
    if experiment.coverage != 1:
        raise refusal(document, ("coverage",), "of a ramp is said by its steps; leave it out")
    if len(experiment.variants) != 2:
        raise refusal(document, ("variant",), "of a ramp are two: what is served today, and what shall be")
    for i, (lower, higher) in enumerate(pairwise(experiment.steps), 1):
        if higher.coverage <= lower.coverage:
            raise refusal(document, ("step", i, "coverage"), f"must be above the step before, {lower.coverage:g}")
    if ramp.label and not LABEL.fullmatch(ramp.label):
        raise refusal(document, ("ramp", "label"), "takes letters, digits, '.', '_' and '-', not only digits")
    if ramp.webhook and not WEBHOOK.fullmatch(ramp.webhook):
        raise refusal(document, ("ramp", "webhook"), "takes an http:// or https:// URL")


def _check_shadow(document: TomlFile, experiment: Experiment) -> None:
    """Nobody sees what a shadow answers, so nothing comes of it that a metric could measure."""
    if experiment.mode != "shadow":
        return
    for key in ("metric", "guardrail"):
        if document.values.get(key):
            raise refusal(
                document, (key,), "measures what callers do, and they see no shadow: it goes with other modes"
            )
    for i, variant in enumerate(experiment.variants):
        if variant.weight != 1:
            raise refusal(document, ("variant", i, "weight"), "says nothing of a shadow; [shadow] has a sample")


def _check_bandit(document: TomlFile, experiment: Experiment) -> None:
    bandit, at = experiment.bandit, "bandit"
    if bandit is None and experiment.mode == "bandit":
        raise ConfigError(f"{document.where('mode')}: a bandit needs a table [bandit] that names its reward, a metric")
    if bandit is None:
        return
    if experiment.mode != "bandit":
        raise refusal(document, (at,), 'goes with mode = "bandit"')
    if experiment.guardrails:
        raise refusal(document, ("guardrail",), "compares variants of fixed shares, which a bandit has not")
    _check_reward(document, experiment, bandit)
    if (bandit.policy == "linucb") and not bandit.context:
        raise refusal(document, (at,), "lacks 'context': linucb chooses by header:NAME and parameter:NAME of a request")
    if len(bandit.context) > _MOST_CONTEXT:
        raise refusal(document, (at, "context"), f"names at most {_MOST_CONTEXT} numbers, got {len(bandit.context)}")
    for source in bandit.context:
        if not _CONTEXT.fullmatch(source) or bandit.context.count(source) > 1:
            raise refusal(document, (at, "context"), f"takes header:NAME and parameter:NAME, each once, got {source!r}")


def _check_reward(document: TomlFile, experiment: Experiment, bandit: Bandit) -> None:
    known = {metric.name: metric for metric in (*experiment.metrics, *automatic_metrics(experiment))}
    metric = known.get(bandit.reward)
    if metric is None:
        word = suggestion(bandit.reward, list(known))
        raise refusal(document, ("bandit", "reward"), f"is no metric: {bandit.reward!r}{word}")
    if metric.kind not in ("mean", "proportion"):
        raise refusal(document, ("bandit", "reward"), f"is a mean or a proportion, and {metric.name!r} a {metric.kind}")
    needed = bandit.policy == "ucb1" and metric.kind == "mean"
    if needed != bool(bandit.span):
        raise refusal(
            document, ("bandit",), "gives a span, [least, highest reward], for ucb1 on a mean, and only there"
        )
    if needed and (len(bandit.span) != 2 or bandit.span[0] >= bandit.span[1]):
        raise refusal(document, ("bandit", "span"), "takes the least and the highest reward, such as [0.0, 50.0]")


def _refuse_twins(document: TomlFile, key: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for i, name in enumerate(names):
        if name in seen:
            raise ConfigError(f"{document.where(key, i)}: a second {key} is named {name!r}")
        seen.add(name)
