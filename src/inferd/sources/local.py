"""Model versions on the local disk: integer folders inside a model folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from inferd.core.errors import LoadFailed
from inferd.sources.folders import subfolders, version_numbers


class LocalSource:
    """``uri`` is the path of a model folder; a version is a child folder whose name is its number."""

    api_version = 1

    def versions(self, uri: str) -> Sequence[int]:
        """The versions there are now, ascending. ``01`` is no version: 1 must have one spelling."""
        try:
            names = subfolders(uri)
        except OSError as error:
            raise LoadFailed(f"{uri}: cannot be listed: {error.strerror}") from None
        return version_numbers(names)

    def fetch(self, uri: str, version: int) -> Path:
        """The version's folder, where it lies. Raises ``LoadFailed`` when it is gone."""
        folder = Path(uri) / str(version)
        if not folder.is_dir():
            raise LoadFailed(f"{folder}: no such version folder")
        return folder


SOURCE = LocalSource()
