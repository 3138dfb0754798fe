"""Find the one artefact in a version folder, and say what is wrong when there is none or there are several."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from inferd.abc import Runtime
from inferd.core.errors import ConfigError
from inferd.core.plugins import available, lookup
from inferd.sources.remote import STUB

# What may lie beside an artefact. Of Python files only model.py is one: the others are its modules, or hooks.py.
_BESIDE = ("hooks.py", "warmup.npz", "golden.*", "manifest.json", "readme*", "model.toml")
_PYTHON = "model.py"

Print = tuple[int, ...]


def find_artefact(folder: Path, runtime: str = "") -> Path:
    """The artefact in ``folder``, or ``folder`` itself when a runtime loads whole folders. ``runtime`` restricts the
    search to one. Raises ``ConfigError`` naming what is there."""
    runtimes = _runtimes(runtime)
    if _claimed(folder, runtimes):
        return folder
    files = _files(folder)
    artefacts = [child for child in files if _claimed(child, runtimes)]
    if runtime and not artefacts and len(files) == 1:
        return files[0]  # a runtime that was named is trusted with a file of any name
    if len(artefacts) == 1:
        if not artefacts[0].is_dir():
            has_file(artefacts[0])
        return artefacts[0]
    if artefacts:
        raise ConfigError(
            f"{folder}: several artefacts: {', '.join(child.name for child in artefacts)}; keep one in a folder"
        )
    there = f"only {', '.join(child.name for child in files[:5])}" if files else "it is empty"
    raise ConfigError(f"{folder}: no file that {_names(runtimes)} loads; {there}")


def artefacts_in(folder: Path) -> list[Path]:
    """What some runtime loads of what lies in ``folder``."""
    runtimes = _runtimes("")
    return [child for child in _files(folder) if _claimed(child, runtimes)]


def is_artefact(folder: Path) -> bool:
    """Whether a runtime loads ``folder`` as a whole."""
    return _claimed(folder, _runtimes(""))


def beside(artefact: Path) -> Path:
    """The folder where a version's other files lie: examples, hooks, inputs to warm up with."""
    return artefact if artefact.is_dir() else artefact.parent


def print_of(artefact: Path) -> Print:
    """What tells the artefact from another one in its place: its size, and when it was written; () for none."""
    try:
        status = artefact.stat()
    except OSError:
        return ()
    folder = artefact if S_ISDIR(status.st_mode) else artefact.parent
    return () if os.path.lexists(folder / STUB) else (status.st_size, status.st_mtime_ns)


def has_file(path: Path) -> bool:
    """Whether there is a file at ``path``.

    Raises ``ConfigError`` for what is there and is none, such as a folder, a pipe or a link to nothing: what it should
    say must not be passed over.
    """
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    if not S_ISREG(status.st_mode) and not path.is_file():
        raise ConfigError(f"{path.parent.name}/{path.name} is no regular file; replace it or take it away")
    return True


def check_artefact(artefact: Path, runtime: str = "") -> None:
    """Raise ``ConfigError`` when no runtime loads ``artefact``."""
    runtimes = _runtimes(runtime)
    if not _claimed(artefact, runtimes):
        raise ConfigError(f"{artefact}: not a file that {_names(runtimes)} loads")


def _runtimes(name: str) -> list[Runtime]:
    return [lookup("inferd.runtimes", entry) for entry in ([name] if name else available("inferd.runtimes"))]


def _files(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if not child.name.startswith(".") and not _is_beside(child))


def _claimed(artefact: Path, runtimes: list[Runtime]) -> bool:
    return any(runtime.claims(artefact) for runtime in runtimes)


def _is_beside(child: Path) -> bool:
    name = child.name.lower()
    return any(fnmatch(name, pattern) for pattern in _BESIDE) or (child.suffix == ".py" and child.name != _PYTHON)


def _names(runtimes: list[Runtime]) -> str:
    if len(runtimes) == 1:
        return f"the {runtimes[0].name} runtime"
    takes = {runtime.name: getattr(runtime, "takes", "") for runtime in runtimes}
    return f"a runtime ({'; '.join(f'{name}: {what}' if what else name for name, what in takes.items())})"
