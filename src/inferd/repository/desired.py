"""What should be served: the paths a person names, their ``model.toml`` files and the version policy."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import MappingProxyType

from inferd.abc import ModelSource
from inferd.core.config import ModelConfig
from inferd.core.errors import ConfigError, LoadFailed
from inferd.core.plugins import lookup
from inferd.repository.artefact import (
    Print,
    artefacts_in,
    check_artefact,
    find_artefact,
    has_file,
    is_artefact,
    print_of,
)
from inferd.repository.completeness import Complete
from inferd.repository.model_toml import FILE_NAME, apply, read_model_toml
from inferd.repository.version_policy import choose_versions
from inferd.sources.folders import subfolders, version_numbers

logger = logging.getLogger("inferd.repository")


@dataclass(frozen=True, slots=True)
class WantedModel:
    """A model that should be served. ``versions`` maps a version to its artefact: a file, a folder, or a path that
    carries a colon (``file.py:Class``, ``module:Class``).

    ``skipped`` says which folders were ignored, and why. ``problems`` holds wanted versions that cannot be loaded,
    with the reason; they are not in ``versions``.
    """

    name: str
    config: ModelConfig
    versions: Mapping[int, Path]
    skipped: tuple[str, ...] = ()
    problems: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    origin: str = ""
    """The path it was found at, for messages."""
    there: tuple[int, ...] = ()
    """Every version found, wanted or not."""
    prints: Mapping[int, Print] = field(default_factory=lambda: MappingProxyType({}))
    """What ``print_of`` says of each artefact now."""
    problem: str = ""
    """Why the folder or its configuration cannot be read; then the rest says nothing of what should be served."""


Choose = Callable[[ModelConfig, Sequence[int]], Sequence[int]]
"""From a model's configuration and the versions there are, those to serve."""


@dataclass(frozen=True, slots=True)
class Look:
    """How to look at a repository. ``defaults`` is what a model gets where its ``model.toml`` says nothing. ``choose``
    picks the versions, as ``by_policy`` does, of those that are complete; ``fetch`` brings the folder of one that is
    picked. A repository that ``may_be_empty`` is no error when it is."""

    defaults: ModelConfig
    choose: Choose
    why_incomplete: Complete = lambda folder: ""
    fetch: Callable[[Path], None] = lambda folder: None
    may_be_empty: bool = False


def discover(paths: Sequence[str], look: Look) -> list[WantedModel]:
    """The models at ``paths``, in order.

    Raises ``ConfigError`` when a path does not exist or is no model, or when two models have one name. A broken model
    inside a repository does not raise: it is returned with its ``problems``.
    """
    wanted: list[WantedModel] = []
    for path in paths:
        try:
            wanted += _discover(path, look)
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}: {error.filename}") from None
    origins: dict[str, str] = {}
    for model in wanted:
        if model.name in origins:
            raise ConfigError(
                f"two models are named {model.name!r}: {origins[model.name]} and {model.origin}; "
                f"rename one, by its folder or by `name` in its {FILE_NAME}"
            )
        origins[model.name] = model.origin
    return wanted


def by_policy(version_policy: str, failed: Mapping[str, Collection[int]] = MappingProxyType({})) -> Choose:
    """Choose by the model's own policy, or by ``version_policy`` where it has none. ``failed`` are versions by model
    that could not be loaded."""
    return lambda config, there: choose_versions(
        config.lifecycle.version_policy or version_policy, there, failed.get(config.name, ())
    )


def _discover(text: str, look: Look) -> Iterator[WantedModel]:
    path = Path(text)
    if path.is_file() or _is_code(text):
        yield _single(text, look.defaults)
    elif not path.is_dir():
        raise ConfigError(_missing(path))
    elif is_artefact(path):  # whatever folders it has of its own
        yield _lone_folder(path, look.defaults)
    elif version_numbers(names := _folder_names(path)):
        model = _model_folder(path, names, look)
        if not model.versions and model.problems:
            raise ConfigError(next(iter(model.problems.values())))
        yield model
    else:
        yield from _repository(path, names, look)


def _repository(path: Path, names: Sequence[str], look: Look) -> Iterator[WantedModel]:
    """The models in a folder of model folders; of one that holds none, itself."""
    found = {path / name: _names_inside(path / name) for name in names if not name.startswith(".")}
    if all(inside is not None and not version_numbers(inside) for inside in found.values()):
        if not (look.may_be_empty and all(child.is_dir() or child.name.startswith(".") for child in path.iterdir())):
            yield _lone_folder(path, look.defaults)
        return
    for child, inside in found.items():
        if inside is None:
            name = _model_name(child.name)
            reason = f"the folder {child.name} cannot be listed"
            yield WantedModel(name, replace(look.defaults, name=name), {}, origin=str(child), problem=reason)
        elif version_numbers(inside):
            yield _model_folder(child, inside, look)
        else:
            _warn_once(f"{child} is ignored: it holds no version folder, such as {child.name}/1")


def _single(text: str, defaults: ModelConfig) -> WantedModel:
    """One artefact on its own is version 1, named like its file or module."""
    check_artefact(Path(text))
    stem = text.rpartition(":")[0] if _is_code(text) else text
    name = Path(stem).stem if Path(stem).is_file() else stem.rpartition(".")[2]
    return _wanted(text, replace(defaults, name=_model_name(name)), {1: Path(text)})


def _lone_folder(folder: Path, defaults: ModelConfig) -> WantedModel:
    """A folder that holds an artefact and no version folders: one version of a model, or a model of one version."""
    absolute = folder.resolve()
    numbered = absolute.name in map(str, _source().versions(str(absolute.parent)))
    home = absolute.parent if numbered else folder
    config = _configure(home, _named(home, defaults))
    try:
        artefact = find_artefact(folder, config.runtime)
    except ConfigError as error:
        raise ConfigError(_with_advice(folder, error.message)) from None
    return _wanted(str(folder), config, {int(absolute.name) if numbered else 1: artefact})


def _with_advice(folder: Path, reason: str) -> str:
    """``reason``, for which ``folder`` is not one version, and what may have been meant by it."""
    several = artefacts_in(folder)
    if len(several) > 1:
        return f"{reason}, or serve each on its own: inferd serve {' '.join(map(str, several[:5]))}"
    visible = [name for name in _folder_names(folder) if not name.startswith(".")]
    listed = (name for name in visible if _names_inside(folder / name) is not None)
    misnamed = next((name for name in listed if artefacts_in(folder / name)), None)
    if misnamed is not None:
        return f"{folder}: {misnamed} is not a number, as the name of a version's folder is, such as {folder / '1'}"
    return f"{reason}; and it holds no version folder (1/, 2/) and no model folder"


def _model_folder(folder: Path, names: Sequence[str], look: Look) -> WantedModel:
    """``names`` are those of the folders inside."""
    numbers = version_numbers(names)
    partial = {version: why for version in numbers if (why := look.why_incomplete(folder / str(version)))}
    there = [version for version in numbers if version not in partial]
    versions: dict[int, Path] = {}
    problems: dict[int, str] = {}
    config = _named(folder, look.defaults)
    problem = ""
    try:
        config = _configure(folder, config)
        for version in look.choose(config, there):
            try:
                look.fetch(folder / str(version))
                versions[version] = find_artefact(_source().fetch(str(folder), version), config.runtime)
            except (ConfigError, LoadFailed) as error:
                problems[version] = error.message
            except OSError as error:
                problems[version] = f"its folder cannot be read: {error.strerror}"
    except ConfigError as error:
        problem = error.message
        problems = dict.fromkeys(there[-1:], problem)
    versioned = {*map(str, numbers)}
    skipped = (
        *(f"{name}: not a version number" for name in names if name not in versioned and not name.startswith(".")),
        *(f"{version}: {why}" for version, why in partial.items()),
    )
    # Callers see these reasons, and the server's paths are not for them.
    shown = {version: _without_path(folder, reason) for version, reason in problems.items()}
    told = _without_path(folder, problem)
    return WantedModel(
        config.name, config, versions, skipped, shown, str(folder), tuple(there), _prints(versions), told
    )


def _without_path(folder: Path, reason: str) -> str:
    return reason.replace(f"{folder.parent}{os.sep}", "")


def _named(folder: Path, defaults: ModelConfig) -> ModelConfig:
    return replace(defaults, name=_model_name(Path(os.path.abspath(folder)).name))


def _configure(folder: Path, config: ModelConfig) -> ModelConfig:
    file = folder / FILE_NAME
    return apply(config, read_model_toml(file)) if has_file(file) else config


def _wanted(origin: str, config: ModelConfig, versions: Mapping[int, Path]) -> WantedModel:
    return WantedModel(config.name, config, versions, origin=origin, there=tuple(versions), prints=_prints(versions))


def _prints(versions: Mapping[int, Path]) -> Mapping[int, Print]:
    return {version: print_of(artefact) for version, artefact in versions.items()}


def _model_name(text: str) -> str:
    """``text`` as a legal model name: what no name may hold becomes an underscore."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip("._-")[:128] or "model"


def _is_code(text: str) -> bool:
    """Whether ``text`` is ``file.py:Class`` of a file that exists, or ``module:Class``."""
    where, colon, name = text.rpartition(":")
    if not (colon and name.isidentifier()):
        return False
    return Path(where).is_file() or (not where.endswith(".py") and all(map(str.isidentifier, where.split("."))))


def _folder_names(folder: Path) -> list[str]:
    try:
        return subfolders(folder)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be listed: {error.strerror}") from None


def _names_inside(folder: Path) -> list[str] | None:
    """None for a folder nobody may read: lost+found in a mounted repository, or a model whose disk is ill."""
    try:
        return subfolders(folder)
    except OSError:
        return None


@cache
def _warn_once(message: str) -> None:
    logger.warning("%s", message)


def _missing(path: Path) -> str:
    if path.name.rpartition(":")[0].endswith(".py"):
        path = path.with_name(path.name.rpartition(":")[0])
    siblings = [child.name for child in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, siblings, n=1)
    return f"{path} does not exist" + (f"; did you mean {path.with_name(near[0])}?" if near else "")


def _source() -> ModelSource:
    source: ModelSource = lookup("inferd.sources", "file")
    return source
