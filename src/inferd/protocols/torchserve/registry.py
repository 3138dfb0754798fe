"""Which models are registered, in TorchServe's sense, and the changes its management API makes to them.

TorchServe registers archives and gives them workers. Here the models are those of the repository: all that it holds are
registered; to unregister one unloads it, and hides it until it is registered again. Workers are instances; none means
that the model is unloaded. The default version is the one that a label points at.
"""

from __future__ import annotations

from inferd.abc import Target
from inferd.core.errors import Conflict, LoadFailed, ModelNotFound, Unsupported
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
        self._hidden: set[str] = set()

    @property
    def names(self) -> list[str]:
        """Every registered model."""
        return [name for name in self._engine.table.models if name not in self._hidden]

    def versions(self, name: str) -> dict[int, VersionStatus]:
        """Every version of a model. Raises ``ModelNotFound``."""
        if name in self._hidden or name not in self._engine.table.models:
            raise ModelNotFound(f"Model not found: {name[:130]}")
        return dict(self._engine.table.models[name])

    def default(self, name: str) -> VersionStatus:
        """The version that a caller gets who names none, or would get."""
        self.versions(name)
        return self._engine.table.default_status(name)

    def version(self, name: str, text: str) -> VersionStatus:
        """The version that ``text`` writes. Raises ``ModelNotFound`` and ``VersionNotFound``."""
        versions = self.versions(name)
        target = version_target(name, text)
        if not isinstance(target.version, int) or target.version not in versions:
            raise self._engine.table.explain(Target(name, text))
        return versions[target.version]

    async def register(self, name: str, workers: int, who: str) -> None:
        """Serve a model of the repository with so many workers. Raises ``Conflict`` when it is registered already."""
        control = self._control()
        if name in self.names:
            raise Conflict(f"Model version {version_text(self.default(name).version)} is already registered for {name}")
        if workers:
            await self._give_workers(control, name, None, workers, who)
        elif name not in self._hidden:  # the repository has not been looked at since it came
            await control.load(name, None, who)
            await control.unload(name, None, who)
        self._hidden.discard(name)

    async def scale(self, name: str, version: int | None, workers: int, who: str) -> None:
        """Give a model, or one version of it, workers or take them all."""
        control = self._control()
        if workers:
            await self._give_workers(control, name, version, workers, who)
        else:
            await control.unload(name, version, who)

    async def unregister(self, status: VersionStatus, who: str) -> None:
        """Unload a version. Raises ``DefaultVersionKept`` for the default one while others serve."""
        control, name = self._control(), status.model
        others = [each for each in self.versions(name).values() if each.servable is not None and each is not status]
        if not others:
            await control.remove_label(name, DEFAULT_LABEL, who)
            await control.unload(name, None, who)
            self._hidden.add(name)
        elif status is self.default(name):
            version = version_text(status.version)
            raise DefaultVersionKept(f"Cannot remove default version {version} for model {name}")
        else:
            await control.unload(name, status.version, who)

    async def set_default(self, status: VersionStatus, who: str) -> None:
        """Point the default at a version. Raises ``Conflict`` unless it is ready."""
        await self._control().set_label(status.model, DEFAULT_LABEL, status.version, who)

    async def settled(self, name: str) -> None:
        """Return when no step is under way for the model. Raises ``LoadFailed`` when it could not be loaded."""
        control = self._control()
        await control.settled(name)
        if failure := control.failure(name):
            raise LoadFailed(f"{name!r} was not loaded: {failure}")

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
