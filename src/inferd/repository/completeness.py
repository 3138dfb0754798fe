"""Whether a version's folder is whole, or somebody is still copying it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from inferd.sources.remote import STUB

Complete = Callable[[Path], str]
"""Why a version's folder is not complete; "" when it is."""
_Print = frozenset[tuple[str, int, int]]


class _Seen(NamedTuple):
    files: _Print
    since_s: float


class Completeness:
    """Remembers what each folder looked like. Any thread may ask.

    With a ``marker`` a folder is complete once it holds a file of that name. Without one it is when its files have lain
    still for ``settle_s`` seconds: by their time stamps if these are that old, by looking twice if not, since clocks
    jump. What was complete stays so until it is gone.
    """

    def __init__(
        self, *, marker: str = "", settle_s: float = 0.0, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._marker = marker
        self._settle_s = settle_s
        self._monotonic_s = monotonic_s
        self._complete: set[Path] = set()
        self._seen: dict[Path, _Seen] = {}
        self._turn = threading.Lock()

    def why_not(self, folder: Path) -> str:
        """See ``Complete``."""
        with self._turn:
            return self._why_not(folder)

    def is_waiting(self) -> bool:
        """Whether a folder that is there was not complete when it was last looked at. Forgets those that are gone."""
        with self._turn:
            self._complete = {folder for folder in self._complete if folder.is_dir()}
            self._seen = {folder: seen for folder, seen in self._seen.items() if folder.is_dir()}
            return bool(self._seen)

    def _why_not(self, folder: Path) -> str:
        if self._marker:
            return "" if (folder / self._marker).is_file() else f"it has no {self._marker} yet"
        if not self._settle_s or folder in self._complete:
            return ""
        if not self._is_still(folder):
            return "its files are still changing"
        self._complete.add(folder)
        self._seen.pop(folder, None)
        return ""

    def _is_still(self, folder: Path) -> bool:
        files, newest_s = _look(folder)
        seen = self._seen.get(folder)
        now_s = self._monotonic_s()
        if seen is not None and seen.files == files:
            return bool(files) and now_s - seen.since_s >= self._settle_s
        self._seen[folder] = _Seen(files, now_s)
        return bool(files) and seen is None and newest_s <= time.time() - self._settle_s


def _look(folder: Path) -> tuple[_Print, float]:
    """Path, size and time of change of each file, and the latest of these times in seconds since 1970. The stub of a
    remote version stands for its files."""
    stub = folder / STUB
    if stub.is_file():
        text = stub.read_text()
        return frozenset({(text, len(text), 0)}), stub.stat().st_mtime
    found = []
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            try:
                stat = os.stat(path)
            except OSError:  # gone since, or nobody may read it: loading it will say so
                continue
            found.append((path, stat.st_size, max(stat.st_mtime_ns, stat.st_ctime_ns)))
    return frozenset(found), max((changed for _, _, changed in found), default=0) / 1e9
