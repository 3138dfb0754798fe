"""Find and load the models of a path, for the commands that do not serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from inferd.cli.serve import read_settings
from inferd.core.errors import ConfigError, InferdError

if TYPE_CHECKING:
    from inferd.repository.desired import WantedModel
    from inferd.repository.loader import LoadedVersion

_Command = TypeVar("_Command", bound=Callable[..., Any])


def model_options(function: _Command) -> _Command:
    """Add the two settings that decide which versions are loaded, and whether pickles are."""
    pickle = click.option("--allow-pickle/--no-allow-pickle", default=None, help="Load pickle-bearing files.")
    return pickle(click.option("--version-policy", metavar="TEXT", help="latest, latest:N, all, or 1,3.")(function))


def find_models(paths: Sequence[str], version_policy: str | None, allow_pickle: bool | None) -> list[WantedModel]:
    """What ``inferd serve`` would want at ``paths``, with the same settings file and environment."""
    from inferd.server.scan import scan_paths

    flags = {"paths": tuple(paths), "version_policy": version_policy, "allow_pickle": allow_pickle}
    settings, _ = read_settings(None, flags)
    return scan_paths(settings)


def load_one(path: str, version_policy: str | None, allow_pickle: bool | None) -> LoadedVersion:
    """The newest wanted version of the only model at ``path``. Raises ``ConfigError`` when there are several."""
    models = find_models([path], version_policy, allow_pickle)
    if len(models) != 1:
        raise ConfigError(f"{path} holds several models: {', '.join(model.name for model in models)}; name one of them")
    model = models[0]
    if not model.versions:
        raise ConfigError(next(iter(model.problems.values())))
    return load(model, max(model.versions))


def load(model: WantedModel, version: int) -> LoadedVersion:
    """One version of ``model``; what ``load_version`` raises says which."""
    from inferd.repository.loader import load_version

    try:
        return load_version(model.config, version, model.versions[version])
    except InferdError as error:
        error.message = f"{model.name} version {version}: {error.message}"
        raise
