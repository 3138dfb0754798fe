"""Which models are registered, in TorchServe's sense, and the changes its management API makes to them.

TorchServe registers archives and gives them workers. Here the models are those of the repository: all that it holds are
registered; to unregister one, or a version of it, unloads it, and hides it until it is registered again or given
workers. Workers are instances; none means that the model is unloaded. The default version is the one that a label
points at.
"""

from __future__ import annotations

from inferd.abc import Target
from inferd.core.errors import Conflict, LoadFailed, ModelNotFound, Unsupported, VersionNotFound
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.torchserve.describe import version_text
from inferd.protocols.torchserve.inference import version_target
from inferd.protocols.torchserve.problem import DefaultVersionKept
from inferd.repository.control import ModelControl
from inferd.serving.table import DEFAULT_LABEL, VersionStatus


class Registry:
    """Used on the loop's thread only."""

    def __init__(self, context: ProtocolContext) -> None:
        self._engine = context.engine
        self._control_of = context.control
        self._hidden: set[tuple[str, int]] = set()

    @property
    def names(self) -> list[str]:
        """Every registered model."""
        return [name for name in self._engine.table.models if self._registered(name)]

    def versions(self, name: str) -> dict[int, VersionStatus]:
        """Every registered version of a model. Raises ``ModelNotFound``."""
        versions = self._registered(name)
        if not versions:
            raise ModelNotFound(f"Model not found: {name[:130]}")
        return versions

    def _registered(self, name: str) -> dict[int, VersionStatus]:
        versions = self._engine.table.models.get(name, {})
        return {number: each for number, each in versions.items() if (name, number) not in self._hidden}

    def default(self, name: str) -> VersionStatus:
        """The version that a caller gets who names none, or would get."""
        self.versions(name)
        return self._engine.table.default_status(name)

    def version(self, name: str, text: str) -> VersionStatus:
        """The registered version that ``text`` writes. Raises ``ModelNotFound`` and ``VersionNotFound``."""
        status = self.known_version(name, text)
        if (name, status.version) in self._hidden:
            raise VersionNotFound(f"Model version: {version_text(status.version)} does not exist for model: {name}")
        return status

    def known_version(self, name: str, text: str) -> VersionStatus:
        """The same, registered or not, of a registered model."""
        self.versions(name)
        versions = self._engine.table.models[name]
        target = version_target(name, text)
        if not isinstance(target.version, int) or target.version not in versions:
            raise self._engine.table.explain(Target(name, text))
        return versions[target.version]

    async def register(self, name: str, workers: int, who: str) -> None:
        """Serve a model of the repository, all of its versions, with so many workers. Raises ``Conflict`` when they are
        registered already."""
        control = self._control()
        is_hidden = any(hidden == name for hidden, _ in self._hidden)
        if name in self.names and not is_hidden:
            raise Conflict(f"Model version {version_text(self.default(name).version)} is already registered for {name}")
        if workers:
            await self._give_workers(control, name, None, workers, who)
        elif not is_hidden:  # the repository has not been looked at since it came
            await control.load(name, None, who)
            await control.unload(name, None, who)
        self._show(name, None)

    async def scale(self, name: str, version: int | None, workers: int, who: str) -> None:
        """Give a model, or one version of it, workers or take them all."""
        control = self._control()
        if workers:
            await self._give_workers(control, name, version, workers, who)
            self._show(name, version)
        else:
            await control.unload(name, version, who)

    async def unregister(self, status: VersionStatus, who: str) -> None:
        """Unload a version. Raises ``DefaultVersionKept`` for the default one while others serve."""
        control, name = self._control(), status.model
        others = [each for each in self.versions(name).values() if each.servable is not None and each is not status]
        if not others:
            await control.remove_label(name, DEFAULT_LABEL, who)
            await control.unload(name, None, who)
            self._hidden |= {(name, number) for number in self._engine.table.models.get(name, {status.version: status})}
        elif status is self.default(name):
            version = version_text(status.version)
            raise DefaultVersionKept(f"Cannot remove default version {version} for model {name}")
        else:
            await control.unload(name, status.version, who)
            self._hidden.add((name, status.version))

    async def set_default(self, status: VersionStatus, who: str) -> None:
        """Point the default at a version. Raises ``Conflict`` unless it is ready."""
        await self._control().set_label(status.model, DEFAULT_LABEL, status.version, who)

    async def settled(self, name: str) -> None:
        """Return when no step is under way for the model. Raises ``LoadFailed`` when it could not be loaded."""
        control = self._control()
        await control.settled(name)
        if failure := control.failure(name):
            raise LoadFailed(f"{name!r} was not loaded: {failure}")

    def _show(self, name: str, version: int | None) -> None:
        """One version, or all of them, are registered again."""
        self._hidden -= {each for each in self._hidden if each[0] == name and version in (None, each[1])}

    async def _give_workers(
        self, control: ModelControl, name: str, version: int | None, workers: int, who: str
    ) -> None:
        await control.load(name, version, who)
        before = control.source(name).overrides
        overrides = {**before, "instances": {**before.get("instances", {}), "count": workers}}
        await control.configure(name, overrides, who)

    def _control(self) -> ModelControl:
        """Raises ``Unsupported`` unless the server was started to be controlled so."""
        if self._control_of is None:
            raise Unsupported("models are not changed by this API; start the server with --model-control")
        return self._control_of()
