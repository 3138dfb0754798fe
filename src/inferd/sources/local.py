"""Model versions on the local disk: integer folders inside a model folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from inferd.core.errors import LoadFailed


class LocalSource:
    """``uri`` is the path of a model folder; a version is a child folder whose name is its number."""

    api_version = 1

    def versions(self, uri: str) -> Sequence[int]:
        """The versions there are now, ascending. ``01`` is no version: 1 must have one spelling."""
        try:
            names = subfolders(uri)
        except OSError as error:
            raise LoadFailed(f"{uri}: cannot be listed: {error.strerror}") from None
        return sorted(int(name) for name in names if name.isascii() and name.isdecimal() and name[0] != "0")

    def fetch(self, uri: str, version: int) -> Path:
        """The version's folder, where it lies. Raises ``LoadFailed`` when it is gone."""
        folder = Path(uri) / str(version)
        if not folder.is_dir():
            raise LoadFailed(f"{folder}: no such version folder")
        return folder


def subfolders(folder: str | Path) -> list[str]:
    """The names of the folders in ``folder``, sorted. Raises ``OSError`` when it cannot be listed."""
    with os.scandir(folder) as entries:  # which mostly knows what is a folder, without asking for each
        return sorted(entry.name for entry in entries if _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


SOURCE = LocalSource()
