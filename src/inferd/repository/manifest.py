"""``manifest.json``: the SHA-256 of every file of a version, so that it is loaded as it was made, or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from inferd.core.errors import ConfigError, LoadFailed
from inferd.core.whole_file import whole_file
from inferd.repository.artefact import has_file

NAME = "manifest.json"
_FORMAT = "inferd-manifest/1"


def write_manifest(folder: Path) -> int:
    """Write the manifest of a version folder, over an older one; returns how many files it names.

    Raises ``ConfigError`` when there is nothing to seal, and ``LoadFailed`` when the disk refuses.
    """
    files = {name: _sha256(path) for name, path in _files(folder) if has_file(path)}
    if not files:
        raise ConfigError(f"{folder} holds no file to seal")
    text = json.dumps({"format": _FORMAT, "files": files}, indent=1, sort_keys=True)
    with whole_file(folder / NAME) as file:
        file.write(text.encode() + b"\n")
    return len(files)


def check_manifest(artefact: Path) -> None:
    """Compare the artefact's folder with its manifest; nothing happens where there is none.

    Raises ``LoadFailed`` naming the first file that was changed, is missing or came later.
    """
    folder = artefact if artefact.is_dir() and has_file(artefact / NAME) else artefact.parent
    if not artefact.exists() or not has_file(folder / NAME):
        return
    try:
        manifest = json.loads((folder / NAME).read_bytes())
        sealed: dict[str, str] = dict(manifest["files"]) if manifest["format"] == _FORMAT else {}
    except OSError as error:
        raise LoadFailed(f"{NAME} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        sealed = {}
    if not sealed:
        raise LoadFailed(f"{NAME} is none that `inferd seal` wrote; seal the version again, or remove it")
    there = dict(_files(folder))
    for name in sorted({*sealed, *there}):
        if name not in there:
            raise LoadFailed(f"{name} is missing, {NAME} names it: the version is not what was sealed")
        if name not in sealed:
            raise LoadFailed(f"{name} is not in {NAME}: the version is not what was sealed")
        if not has_file(there[name]) or _sha256(there[name]) != sealed[name]:
            raise LoadFailed(f"{name} was changed after it was sealed: its SHA-256 is not that of {NAME}")


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """What is below, but folders, by its name with slashes. What Python caches and hidden files are no part of it."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
        if not path.is_dir() and not hidden and parts != (NAME,):
            yield "/".join(parts), path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
