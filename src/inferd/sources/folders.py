"""Folders on the local disk, and which of them are versions."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def version_numbers(names: Iterable[str]) -> list[int]:
    """Of the names of folders those that are versions, ascending."""
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal() and name[0] != "0")


def subfolders(folder: str | Path) -> list[str]:
    """The names of the folders in ``folder``, sorted. Raises ``OSError`` when it cannot be listed."""
    with os.scandir(folder) as entries:  # which mostly knows what is a folder, without asking for each
        return sorted(entry.name for entry in entries if _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
