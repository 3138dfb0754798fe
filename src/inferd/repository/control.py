"""What people may do with models while the server runs: load, unload, reload, choose versions, move labels.

Each call changes a decision, keeps it in the state store, looks at the repository again, and lets the reconciler do the
rest. What a file defines is not changed here: that is a ``Conflict`` naming the file.
"""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from inferd.core.config import ModelConfig
from inferd.core.errors import (
    Conflict,
    InferdError,
    InvalidRequest,
    LoadFailed,
    ModelNotFound,
    Unsupported,
    VersionNotFound,
)
from inferd.core.lifecycle import VersionState
from inferd.repository.desired import Choose, WantedModel, by_policy
from inferd.repository.model_toml import FILE_NAME, apply, read_overrides
from inferd.repository.record import VersionRecord
from inferd.repository.repository import ModelRepository
from inferd.repository.state import Decision, HistoryEvent, StateStore, now_ms
from inferd.repository.version_policy import check_policy

Find = Callable[[str, str, Choose], WantedModel]
"""The model of the first argument's name at the path that is the second. Raises ``ConfigError``; slow."""
Scan = Callable[[Choose], list[WantedModel]]
"""Look at the repository: every model, with the versions that the argument chooses. Slow; called off the loop."""

_LABEL = re.compile(r"(?=.*[^0-9])[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class ModelControl:
    """Used on the loop's thread only; calls that change something wait for each other."""

    def __init__(
        self,
        repository: ModelRepository,
        store: StateStore,
        decisions: dict[str, Decision],
        scan: Scan,
        version_policy: str,
        find: Find | None = None,
    ) -> None:
        self._repository = repository
        self._store = store
        self._decisions = decisions
        self._scan = scan
        self._find = find
        self._added: dict[str, tuple[str, WantedModel]] = {}
        self._choose = chooser(decisions, version_policy)
        self._version_policy = version_policy
        self._turn = asyncio.Lock()
        self._show_labels()

    async def load(self, name: str, version: int | None, who: str) -> None:
        """Serve the model as its policy says, or this version too. Nothing happens when it is so already.

        Raises ``ModelNotFound`` and ``VersionNotFound``.
        """
        async with self._turn:
            decision = self._decision(name)
            if version is None:
                decision.off = False
                decision.unloaded.clear()
            else:
                decision.off = False
                decision.loaded.add(version)
                decision.unloaded.discard(version)
            await self._decide(name, decision, version, "load", who, must_have=version)

    async def unload(self, name: str, version: int | None, who: str) -> None:
        """Stop serving the model, or this version, until it is loaded again. Raises ``Conflict`` when a label points
        at the version."""
        async with self._turn:
            decision = self._decision(name)
            if version is None:
                decision.off = True
                decision.loaded.clear()
            else:
                for label, labelled in decision.labels.items():
                    if labelled == version:
                        raise Conflict(f"the label {label!r} of {name!r} points at version {version}; move it first")
                decision.loaded.discard(version)
                decision.unloaded.add(version)
            await self._decide(name, decision, version, "unload", who)

    async def reload(self, name: str, version: int | None, who: str) -> None:
        """Load what is served again, from its files as they are now; the old one serves until the new one is ready."""
        async with self._turn:
            decision = self._decision(name)
            if version is not None and version not in self._served(name):
                raise VersionNotFound(f"version {version} of {name!r} is not served; load it instead")
            await self._decide(name, decision, version, "reload", who)
            self._repository.reload(name, version)

    async def configure(self, name: str, overrides: Mapping[str, Any], who: str) -> bool:
        """Lay ``overrides``, in the form of ``model.toml``, over the model's configuration from now on; {} goes back to
        its files. What is served is loaded again when that changes anything, which is what the answer says.

        Raises ``ConfigError`` for what no ``model.toml`` could say.
        """
        async with self._turn:
            decision = self._decision(name)
            if decision.overrides == overrides:
                return False
            read_overrides(overrides)
            decision.overrides = dict(overrides)
            await self._decide(name, decision, None, "configure" if overrides else "configure by its files", who)
            return True

    async def add(self, name: str, path: str, who: str) -> None:
        """Serve the model at ``path`` under ``name`` until it is removed or the server ends, beside the repository's.

        Raises ``Conflict`` when there is one of that name, and ``ConfigError`` for a path that holds no model.
        """
        async with self._turn:
            if name in self._repository.wanted:
                raise Conflict(f"a model named {name!r} is there already")
            if self._find is None:
                raise Unsupported("this server takes no models by path")
            self._added[name] = (path, await asyncio.to_thread(self._find, name, path, self._choose))
            self._store.record(HistoryEvent(now_ms(), name, None, "add", who or "somebody without a key", path))
            await self._look()

    async def remove(self, name: str, who: str) -> None:
        """Serve a model that was added no longer. Raises ``ModelNotFound``."""
        async with self._turn:
            if name not in self._added:
                raise ModelNotFound(f"no model named {name!r} was added")
            del self._added[name]
            self._store.record(HistoryEvent(now_ms(), name, None, "remove", who or "somebody without a key", ""))
            await self._look()

    @property
    def added(self) -> Mapping[str, str]:
        """The models that were added, and their paths."""
        return {name: path for name, (path, _) in self._added.items()}

    def error(self, name: str) -> InferdError | None:
        """What the model's latest versions failed with; None when they did not."""
        errors = [each.error for each in self._repository.records if each.model == name and each.current and each.error]
        return errors[-1] if errors else None

    def overrides(self, name: str) -> Mapping[str, Any]:
        """What is laid over the model's configuration."""
        return self._decisions.get(name, Decision()).overrides

    def failure(self, name: str) -> str:
        """Why the model's latest versions could not be loaded; "" when they were."""
        failed = [
            record.reason
            for record in self._repository.records
            if record.model == name and record.state is VersionState.FAILED and record.current
        ]
        return failed[-1] if failed else ""

    async def set_policy(self, name: str, policy: str, who: str) -> None:
        """Choose versions by ``policy`` from now on; "" goes back to the configured one."""
        async with self._turn:
            decision = self._decision(name)
            config = self._known(name).config
            if config.lifecycle.version_policy:
                raise Conflict(f"the version policy of {name!r} is defined in its {FILE_NAME}; change it there")
            decision.policy = check_policy(policy) if policy else ""
            await self._decide(name, decision, None, f"policy {policy or 'as configured'}", who)

    async def set_label(self, name: str, label: str, version: int, who: str) -> None:
        """Point a label at a ready version, at once for everyone. The version is then served whatever the policy says.

        Raises ``Conflict`` for a version that is not ready, and ``InvalidRequest`` for what is no label.
        """
        async with self._turn:
            decision = self._decision(name)
            if not _LABEL.fullmatch(label):
                raise InvalidRequest(f"{label[:130]!r} is no label: letters, digits, '.', '_' and '-', not only digits")
            record = self._served(name).get(version)
            if record is None or not record.is_ready:
                state = record.state.value if record else "not served"
                raise Conflict(f"version {version} of {name!r} is {state}; a label takes a version that is ready")
            decision.labels[label] = version
            await self._decide(name, decision, version, f"label {label}", who)

    async def remove_label(self, name: str, label: str, who: str) -> None:
        """Take a label away. Nothing happens when there is none."""
        async with self._turn:
            decision = self._decision(name)
            if decision.labels.pop(label, None) is not None:
                await self._decide(name, decision, None, f"label {label} removed", who)

    async def rescan(self) -> None:
        """Look at the repository again and serve what is wanted of it now."""
        async with self._turn:
            await self._look()

    async def settled(self, name: str) -> None:
        """Return when no step is under way for the model."""
        await self._repository.settled([name])

    def describe(self, name: str) -> dict[str, Any]:
        """A model's versions, labels and policy. Raises ``ModelNotFound``."""
        model = self._known(name)
        decision = self._decisions.get(name, Decision())
        policy = decision.policy or model.config.lifecycle.version_policy or self._version_policy
        return {
            "name": name,
            "policy": policy,
            "labels": dict(decision.labels),
            "versions": [
                {**record.describe(), "since_ms": record.since_ms, "load_s": round(record.load_s, 3)}
                for record in self._repository.records
                if record.model == name
            ],
            "there": list(model.there),
            "origin": model.origin,
            "ignored": list(model.skipped),
            **({"problem": model.problem} if model.problem else {}),
        }

    def history(self, name: str, limit: int) -> list[HistoryEvent]:
        """The last events of a model, the latest first. Raises ``ModelNotFound``."""
        self._known(name)
        return self._store.history(name, limit)

    @property
    def names(self) -> Sequence[str]:
        """Every model of the repository."""
        return sorted({*self._repository.wanted, *(record.model for record in self._repository.records)})

    def _known(self, name: str) -> WantedModel:
        model = self._repository.wanted.get(name)
        if model is None:
            known = ", ".join(self.names) or "none"
            raise ModelNotFound(f"no model named {name!r} in the repository; there are: {known}")
        return model

    def _decision(self, name: str) -> Decision:
        """A copy to change; it counts once it is kept."""
        return copy.deepcopy(self._decisions.get(name, Decision()))

    def _served(self, name: str) -> dict[int, VersionRecord]:
        return {
            record.version: record
            for record in self._repository.records
            if record.model == name and record.state is VersionState.READY
        }

    async def _decide(
        self, name: str, decision: Decision, version: int | None, event: str, who: str, must_have: int | None = None
    ) -> None:
        """Look at the repository with ``decision``, and keep it when that goes well."""
        before = self._decisions.get(name)
        self._decisions[name] = decision
        try:
            wanted = await self._scanned()
            found = next((model for model in wanted if model.name == name), None)
            if found is None:
                known = ", ".join(sorted(model.name for model in wanted)) or "none"
                raise ModelNotFound(f"no model named {name!r} in the repository; there are: {known}")
            if must_have is not None and must_have not in found.there:
                there = ", ".join(map(str, found.there)) or "none"
                raise VersionNotFound(f"model {name!r} has no version {must_have}; there are: {there}")
            self._store.save(name, decision)
        except BaseException:
            if before is None:
                del self._decisions[name]
            else:
                self._decisions[name] = before
            raise
        self._store.record(HistoryEvent(now_ms(), name, version, event, who or "somebody without a key", ""))
        self._show_labels()
        self._repository.apply(wanted)

    async def _look(self) -> None:
        self._repository.apply(await self._scanned())

    async def _scanned(self) -> list[WantedModel]:
        return overlaid(await asyncio.to_thread(self._look_at_files, dict(self._added)), self._decisions)

    def _look_at_files(self, added: Mapping[str, tuple[str, WantedModel]]) -> list[WantedModel]:
        """The repository's models and those that were added; one whose files are gone stays as it was."""
        wanted = self._scan(self._choose)
        for name, (path, known) in added.items():
            try:
                wanted.append(self._find(name, path, self._choose) if self._find is not None else known)
            except LoadFailed:
                wanted.append(known)
        return wanted

    def _show_labels(self) -> None:
        self._repository.labels = {name: decision.labels for name, decision in self._decisions.items()}


def overlaid(wanted: Sequence[WantedModel], decisions: Mapping[str, Decision]) -> list[WantedModel]:
    """``wanted`` with what was decided about configurations laid over them."""
    return [
        replace(model, config=apply(model.config, read_overrides(decisions[model.name].overrides)))
        if model.name in decisions
        else model
        for model in wanted
    ]


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


def chooser(decisions: dict[str, Decision], version_policy: str) -> Choose:
    """Choose versions by policy, and by what was decided since."""
    usual = by_policy(version_policy)

    def choose(config: ModelConfig, there: Sequence[int]) -> Sequence[int]:
        decision = decisions.get(config.name)
        if decision is None:
            return usual(config, there)
        if decision.off:
            return ()
        config = apply(config, read_overrides(decision.overrides))
        by_rule = by_policy(decision.policy)(config, there) if decision.policy else usual(config, there)
        kept = ({*decision.loaded, *decision.labels.values()} & {*there}) | {*by_rule}
        return sorted(kept - decision.unloaded)

    return choose
