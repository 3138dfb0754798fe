"""Look at the paths a server was given, with its settings."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

from inferd.core.errors import ConfigError, LoadFailed
from inferd.repository.completeness import Completeness
from inferd.repository.desired import Choose, Look, WantedModel, by_policy, discover
from inferd.server.settings import Settings, model_defaults
from inferd.sources.remote import Mirror, is_remote

logger = logging.getLogger("inferd.server")


class Repositories:
    """The paths of a server, and what is remembered of them from look to look. Used by one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._mirrors: dict[str, Mirror] = {}
        self._trouble: dict[str, str] = {}
        settle_s = settings.watch_settle_s if settings.watch else 0.0
        self.completeness = Completeness(marker=settings.complete_marker, settle_s=settle_s)

    def scan(self, choose: Choose | None = None) -> list[WantedModel]:
        """Every model there is now, with the versions ``choose`` picks, by default those of the policies.

        Raises ``ConfigError`` as ``discover`` does, and ``LoadFailed`` for a remote path that cannot be listed and
        never was.
        """
        settings = self._settings
        look = Look(
            replace(model_defaults(settings), allow_pickle=settings.allow_pickle),
            choose or by_policy(settings.version_policy),
            self.completeness.why_not,
            self._fetch,
            may_be_empty=settings.watch or choose is not None,
        )
        return discover([self._local(path) if is_remote(path) else path for path in settings.paths], look)

    def _local(self, url: str) -> str:
        """The folder that mirrors ``url``, brought up to date if that can be done."""
        mirror = self._mirrors.get(url)
        if mirror is None:
            limit_bytes = int(self._settings.cache_max_gb * (1 << 30))
            mirror = self._mirrors[url] = Mirror(url, cache_folder(self._settings), limit_bytes)
        try:
            mirror.refresh()
        except LoadFailed as error:
            if not mirror.path.exists():
                raise
            if self._trouble.get(url) != error.message:
                logger.error("%s; what was fetched before goes on", error.message)
            self._trouble[url] = error.message
        else:
            self._trouble.pop(url, None)
        return str(mirror.path)

    def _fetch(self, folder: Path) -> None:
        for mirror in self._mirrors.values():
            if mirror.path in folder.parents:
                mirror.fetch(folder)


def scan_paths(settings: Settings, choose: Choose | None = None) -> list[WantedModel]:
    """One look at the paths of ``settings``; see ``Repositories.scan``."""
    return Repositories(settings).scan(choose)


def find_model(settings: Settings, name: str, path: str, choose: Choose) -> WantedModel:
    """The one model at a local ``path``, called ``name``. Raises ``ConfigError`` when there is none, or several."""
    look = Look(
        replace(model_defaults(settings), allow_pickle=settings.allow_pickle),
        lambda config, there: choose(replace(config, name=name), there),
    )
    models = discover([path], look)
    if len(models) != 1:
        raise ConfigError(f"{path} holds {len(models)} models where one is expected")
    return replace(models[0], name=name, config=replace(models[0].config, name=name))


def cache_folder(settings: Settings) -> Path:
    """Where remote files are kept: as set, or in the user's cache folder (XDG Base Directory)."""
    if settings.cache_folder:
        return Path(settings.cache_folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inferd"
