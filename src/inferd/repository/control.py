"""What people may do with models while the server runs: load, unload, reload, choose versions, move labels.

Each call changes a decision, keeps it in the state store, looks at the repository again, and lets the reconciler do the
rest. What a file defines is not changed here: that is a ``Conflict`` naming the file.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from inferd.core.errors import (
    Conflict,
    InferdError,
    InvalidRequest,
    ModelNotFound,
    VersionNotFound,
)
from inferd.core.lifecycle import VersionState
from inferd.repository.by_path import Find, ModelsByPath, put
from inferd.repository.decided import Scan, chooser, overlaid
from inferd.repository.desired import WantedModel
from inferd.repository.model_toml import FILE_NAME, read_overrides
from inferd.repository.record import VersionRecord
from inferd.repository.repository import ModelRepository
from inferd.repository.stand_ins import StandIns
from inferd.repository.state import Decision, HistoryEvent, StateStore, now_ms
from inferd.repository.uploads import Uploads
from inferd.repository.version_policy import check_policy

logger = logging.getLogger("inferd.repository")

_LABEL = re.compile(r"(?=.*[^0-9])[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Source(NamedTuple):
    """What is laid over a model's configuration, and the folder that stands in place of the repository's, or ""."""

    overrides: Mapping[str, Any]
    folder: str


class ModelControl:
    """Used on the loop's thread only; calls that change something wait for each other."""

    def __init__(
        self,
        repository: ModelRepository,
        store: StateStore,
        decisions: dict[str, Decision],
        scan: Scan,
        version_policy: str,
        find: Find,
        uploads: Uploads,
    ) -> None:
        self._repository = repository
        self._store = store
        self._decisions = decisions
        self._scan = scan
        self._uploads = uploads
        self._changes: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._removals: set[asyncio.Task[None]] = set()
        failed: dict[str, frozenset[int]] = {}
        choose = chooser(decisions, version_policy, failed)
        self._by_path = ModelsByPath(find, choose, decisions)
        self._stand_ins = StandIns(repository, failed, choose, self.rescan)
        self._version_policy = version_policy
        self._turn = asyncio.Lock()
        self._lost: set[tuple[str, str, int]] = set()
        self._show_labels()
        self._tell_of_lost(repository.wanted.values())

    async def load_all(self) -> None:
        """Load what is wanted at the start, and what stands in for that where it fails."""
        await self._repository.load_all()
        await self._stand_ins.settled(self._repository.wanted)

    async def load(self, name: str, version: int | None, who: str) -> None:
        """Serve the model as its policy says, or this version too, lazy or not, from its files as they are now. Nothing
        happens when it is so already.

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
            for record in self._repository.records:
                if record.model == name and record.dormant and version in (None, record.version):
                    self._repository.wake(name, record.version)
            self._repository.reload(name, version, stale_only=True)

    async def unload(self, name: str, version: int | None, who: str) -> None:
        """Stop serving the model, or this version, until it is loaded again. Raises ``Conflict`` when a label points
        at the version."""
        async with self._turn:
            folder = self.source(name).folder if version is None else ""
            if folder:
                wanted = await self._unplace(name)
                self.discard(name, folder)
                if not any(model.name == name for model in wanted):
                    self._record(name, None, "unload", who)
                    self._repository.apply(wanted)
                    return
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

    async def _unplace(self, name: str) -> list[WantedModel]:
        """Put the repository's model back where another stands in its place; what is wanted now."""
        before = self._by_path.state(name)
        self._by_path.unplace(name)
        try:
            wanted = await self._scanned()
        except BaseException:
            self._by_path.restore(name, before)
            raise
        self._show_labels()
        return wanted

    async def reload(self, name: str, version: int | None, who: str) -> None:
        """Load what is served again, from its files as they are now; the old one serves until the new one is ready."""
        async with self._turn:
            decision = self._decision(name)
            if version is not None and version not in self._served(name):
                raise VersionNotFound(f"version {version} of {name!r} is not served; load it instead")
            await self._decide(name, decision, version, "reload", who)
            self._repository.reload(name, version)

    async def configure(self, name: str, overrides: Mapping[str, Any], who: str, folder: str | None = None) -> bool:
        """Lay ``overrides``, in the form of ``model.toml``, over the model's configuration from now on; {} goes back to
        its files. Those are in ``folder`` from now on, "" being the repository's; None leaves that as it is. What is
        served is loaded again when that changes anything, which is what the answer says.

        What stands in place of the repository's is forgotten at the server's end. Raises ``ConfigError`` for what no
        ``model.toml`` could say, and for a folder that holds no model.
        """
        async with self._turn:
            source = self.source(name)
            folder = source.folder if folder is None else folder
            if source == (overrides, folder):
                return False
            read_overrides(overrides)
            before = self._by_path.state(name)
            try:
                if folder and folder != source.folder:
                    await self._by_path.place(name, folder, overrides)
                elif not folder:
                    self._by_path.unplace(name)
                decision = self._decision(name)
                decision.overrides = dict(overrides)
                await self._decide(name, decision, None, "configure" if overrides else "configure by its files", who)
            except BaseException:
                self._by_path.restore(name, before)
                raise
            return True

    async def go_back(self, name: str, source: Source, who: str) -> None:
        """Serve the model from ``source`` again, where it came from before it was configured otherwise."""
        if source.folder or not self.source(name).folder:
            await self.configure(name, source.overrides, who, source.folder)
        else:
            async with self._turn:
                self._repository.apply(await self._unplace(name))
                self._record(name, None, "configure by its files", who)
        await self.settled(name)

    def change_of(self, name: str) -> asyncio.Lock:
        """What holds whoever changes a model in several steps, so that such changes wait for each other."""
        return self._changes.setdefault(name, asyncio.Lock())

    def source(self, name: str) -> Source:
        """Where the model's configuration and files come from."""
        return Source(self._decisions.get(name, Decision()).overrides, self._by_path.folder(name))

    async def keep(self, name: str, files: Mapping[str, bytes]) -> str:
        """Write ``files``, by their paths in a model folder, to a folder that may stand in place of the repository's.

        Raises ``ConfigError`` for what cannot be written, or not be taken.
        """
        return await asyncio.to_thread(self._uploads.write, name, files)

    def discard(self, name: str, folder: str) -> None:
        """Remove a folder that was kept for the model, once no step is under way that may read it."""

        async def remove() -> None:
            await self._repository.settled([name])
            await asyncio.to_thread(self._uploads.remove, folder)

        task = asyncio.get_running_loop().create_task(remove())
        self._removals.add(task)
        task.add_done_callback(self._removals.discard)

    async def add(self, name: str, path: str, who: str) -> None:
        """Serve the model at ``path`` under ``name`` until it is removed or the server ends, beside the repository's.

        Raises ``Conflict`` when there is one of that name, and ``ConfigError`` for a path that holds no model.
        """
        async with self._turn:
            if name in self._repository.wanted:
                raise Conflict(f"a model named {name!r} is there already")
            await self._by_path.add(name, path)
            self._record(name, None, "add", who, path)
            await self._look()

    async def remove(self, name: str, who: str) -> None:
        """Serve a model that was added no longer. Raises ``ModelNotFound``."""
        async with self._turn:
            if name not in self.added:
                raise ModelNotFound(f"no model named {name!r} was added")
            self._by_path.remove(name)
            self._record(name, None, "remove", who)
            await self._look()

    @property
    def added(self) -> Mapping[str, str]:
        """The models that were added, and their paths."""
        return self._by_path.added

    def error(self, name: str) -> InferdError | None:
        """What the model's latest versions failed with; None when they did not."""
        errors = [each.error for each in self._repository.records if each.model == name and each.current and each.error]
        return errors[-1] if errors else None

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
        await self._stand_ins.settled([name])

    async def loaded(self, name: str) -> str:
        """Return when no step is under way for the model; why its versions could not be loaded, "" when they were."""
        await self.settled(name)
        return self.failure(name)

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
        return self._decisions.get(name, Decision()).copy()

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
            if not self._by_path.folder(name):  # what takes its place is gone after a restart, and so is this
                self._store.save(name, decision)
        except BaseException:
            put(self._decisions, name, before)
            raise
        self._record(name, version, event, who)
        await asyncio.sleep(0)  # requests first: one long turn of the loop would hold up all of them
        self._show_labels()
        self._repository.apply(wanted)

    def _record(self, name: str, version: int | None, event: str, who: str, why: str = "") -> None:
        self._store.record(HistoryEvent(now_ms(), name, version, event, who or "somebody without a key", why))

    async def _look(self) -> None:
        self._repository.apply(await self._scanned())

    async def _scanned(self) -> list[WantedModel]:
        wanted = overlaid(await self._by_path.look(self._scan), self._decisions)
        self._tell_of_lost(wanted)
        return wanted

    def _tell_of_lost(self, wanted: Iterable[WantedModel]) -> None:
        """Say once of each label that its version is gone; whoever asks for it learns so too."""
        lost = {
            (model.name, label, version)
            for model in wanted
            for label, version in self._decisions.get(model.name, Decision()).labels.items()
            if version not in model.there
        }
        for name, label, version in sorted(lost - self._lost):
            logger.warning("the label %r of %s points at version %d, which is not there", label, name, version)
            self._record(name, version, f"label {label} lost", "inferd", "the version is not there")
        self._lost = lost

    def _show_labels(self) -> None:
        self._repository.labels = {name: decision.labels for name, decision in self._decisions.items()}
