"""What can be asked now: an immutable snapshot, replaced whole; readers need no lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inferd.abc import Target
from inferd.core.errors import (
    AmbiguousModel,
    InferdError,
    ModelNotFound,
    ModelNotLoaded,
    ModelNotReady,
    VersionNotFound,
)
from inferd.core.lifecycle import VersionState
from inferd.serving.servable import Servable, Ticket

DEFAULT_LABEL = "default"
"""The label of the version that callers get who name none."""
_NO_LABELS: Mapping[str, Mapping[str, int]] = {}


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """Where one version of a model stands, for the index and for errors; ``servable`` only while READY. A ``dormant``
    one is loaded, or being loaded, because somebody asks for it; one that is ``asleep`` waits for that alone."""

    model: str
    version: int
    state: VersionState
    reason: str = ""
    servable: Servable | None = None
    dormant: bool = False
    asleep: bool = False

    @property
    def available(self) -> bool:
        """Whether it answers, at once or after it was loaded."""
        return self.servable is not None or self.dormant


class Table:
    """Maps a target to the ticket of a ready version. A model's default is the version that its label ``default``
    points at, ready or not, or else its highest that is ready or asleep; ``labels`` maps a model's labels to
    versions."""

    def __init__(
        self,
        statuses: Sequence[VersionStatus] = (),
        default_model: str = "",
        labels: Mapping[str, Mapping[str, int]] = _NO_LABELS,
    ) -> None:
        self.statuses = tuple(statuses)
        self.models: Mapping[str, Mapping[int, VersionStatus]] = _by_model(statuses)
        self.default_model = default_model or (next(iter(self.models)) if len(self.models) == 1 else "")
        self.labels = {name: dict(of_model) for name, of_model in labels.items() if of_model}
        self.tickets: dict[Target, Ticket] = {}
        for name, versions in self.models.items():
            for version, status in sorted(versions.items()):
                if status.servable is not None:
                    ticket = status.servable.ticket
                    self.tickets[Target(name, version)] = ticket
                    self.tickets[Target(name, None)] = ticket
                elif status.asleep:  # to be woken, rather than that a lower one answers which happens to be loaded
                    self.tickets.pop(Target(name, None), None)
        for name, of_model in self.labels.items():
            for label, version in of_model.items():
                labelled = self.tickets.get(Target(name, version))
                if labelled is not None:
                    self.tickets[Target(name, label)] = labelled
                if label == DEFAULT_LABEL and version in self.models.get(name, ()):
                    self._set_default(name, labelled)
        default = self.tickets.get(Target(self.default_model, None))
        if default is not None:
            self.tickets[Target(None, None)] = default

    def _set_default(self, name: str, labelled: Ticket | None) -> None:
        """Give callers who name no version the labelled one; nothing, while that is not ready."""
        if labelled is not None:
            self.tickets[Target(name, None)] = labelled
        else:
            self.tickets.pop(Target(name, None), None)

    def explain(self, target: Target) -> InferdError:
        """Why ``target`` has no ticket."""
        name = target.name or self.default_model
        known = ", ".join(sorted(self.models)) or "none"
        if not name:
            if not self.models:
                return ModelNotReady("no model is being served", retry_after_s=1)
            return AmbiguousModel(
                f"several models are served and none is the default; ask for one by name: {known}",
                hint="POST /models/{name}/predict, or start the server with --default-model",
                expected=sorted(self.models),
            )
        versions = self.models.get(name)
        if versions is None:
            return ModelNotFound(f"no model named {name!r}; served: {known}", expected=sorted(self.models))
        version = target.version
        labels = self.labels.get(name, {})
        if isinstance(version, str):
            version = labels.get(version, 0)
        if version is not None and version not in versions:
            known = ", ".join(
                [*map(str, sorted(versions)), *sorted(each for each in labels if labels[each] in versions)]
            )
            if target.version in labels:
                return VersionNotFound(
                    f"the label {target.version!r} of {name!r} points at version {version}, which is not served; "
                    f"there are: {known}"
                )
            return VersionNotFound(f"model {name!r} has no version {target.version}; there are: {known}")
        status = versions[version] if version is not None else self.default_status(name)
        if status.dormant:
            return ModelNotLoaded(name, status.version, status.reason)
        reason = f": {status.reason}" if status.reason else ""
        return ModelNotReady(
            f"model {name!r} version {status.version} is {status.state.value}{reason}", retry_after_s=1
        )

    def default_status(self, name: str) -> VersionStatus:
        """The version of ``name`` that a request without a version gets or would get. Raises ``KeyError``."""
        versions = self.models[name]
        if labelled := versions.get(self.labels.get(name, {}).get(DEFAULT_LABEL, 0)):
            return labelled
        ready = self.tickets.get(Target(name, None))
        return versions[ready.servable.version] if ready else _newest(versions)

    def may_answer(self, target: Target) -> bool:
        """Whether ``target`` has a version that answers, at once or after it was loaded."""
        if target in self.tickets:
            return True
        return isinstance(self.explain(target), ModelNotLoaded)


def _newest(versions: Mapping[int, VersionStatus]) -> VersionStatus:
    """The highest version that can be loaded on a call, or else the highest of all."""
    return versions[max((each for each, status in versions.items() if status.dormant), default=max(versions))]


def _by_model(statuses: Sequence[VersionStatus]) -> dict[str, dict[int, VersionStatus]]:
    models: dict[str, dict[int, VersionStatus]] = {}
    for status in statuses:
        models.setdefault(status.model, {})[status.version] = status
    return models
