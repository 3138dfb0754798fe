"""What people decided about models, laid over what a repository holds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from inferd.core.config import ModelConfig
from inferd.repository.desired import Choose, WantedModel, by_policy
from inferd.repository.model_toml import apply, read_overrides
from inferd.repository.state import Decision

Scan = Callable[[Choose], list[WantedModel]]
"""Look at the repository: every model, with the versions that the argument chooses. Slow; called off the loop."""


def overlaid(wanted: Sequence[WantedModel], decisions: Mapping[str, Decision]) -> list[WantedModel]:
    """``wanted`` with what was decided about configurations laid over them."""
    return [
        replace(model, config=_overridden(model.config, decisions[model.name])) if model.name in decisions else model
        for model in wanted
    ]


def _overridden(config: ModelConfig, decision: Decision) -> ModelConfig:
    return apply(config, read_overrides(decision.overrides)) if decision.overrides else config


def fixed(wanted: Sequence[WantedModel]) -> Scan:
    """A repository that never changes: objects of a running program."""

    def scan(choose: Choose) -> list[WantedModel]:
        return [
            replace(
                model,
                versions={
                    each: path for each, path in model.versions.items() if each in choose(model.config, model.there)
                },
            )
            for model in wanted
        ]

    return scan


def chooser(
    decisions: dict[str, Decision],
    version_policy: str,
    failed: Mapping[str, Collection[int]] = MappingProxyType({}),
) -> Choose:
    """Choose versions by policy, by what was decided since, and by what has ``failed`` (``by_policy``)."""
    usual = by_policy(version_policy, failed)

    def choose(config: ModelConfig, there: Sequence[int]) -> Sequence[int]:
        decision = decisions.get(config.name)
        if decision is None:
            return usual(config, there)
        if decision.off:
            return ()
        config = _overridden(config, decision)
        there = [version for version in there if version not in decision.unloaded]
        by_rule = by_policy(decision.policy, failed)(config, there) if decision.policy else usual(config, there)
        kept = ({*decision.loaded, *decision.labels.values()} & {*there}) | {*by_rule}
        return sorted(kept - decision.unloaded)

    return choose
