"""Model folders whose files callers brought: written to a private place, and gone when the server is."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from inferd.core.errors import ConfigError

_DATA = frozenset({".bin", ".cbm", ".data", ".json", ".md", ".npz", ".onnx", ".skops", ".txt", ".ubj"})
"""Files that hold no program. Not ``.toml``: a ``model.toml`` can trust the types of a skops file."""
_LOCK = "lock"


class Uploads:
    """Used by any thread. Each folder is in a private one that this process has locked; those of servers that were
    killed are removed by the next one. ``any_code`` takes files that may hold programs, as pickles do."""

    def __init__(self, home: Path, *, any_code: bool) -> None:
        self._home = home
        self._any_code = any_code
        self._own: Path | None = None
        self._lock: IO[str] | None = None
        self._turn = threading.Lock()

    def write(self, name: str, files: Mapping[str, bytes]) -> str:
        """The path of a model folder called ``name`` with these ``files``, whose paths are relative and checked.

        Raises ``ConfigError`` for a file that is not taken, and when the disk refuses; then nothing is left of it.
        """
        for path in files:
            if not self._any_code and PurePosixPath(path).suffix.lower() not in _DATA:
                raise ConfigError(
                    f"{path} may hold a program, which whoever loads it would run here; without --allow-pickle only "
                    f"files of these kinds are taken: {', '.join(sorted(_DATA))}"
                )
        folder: Path | None = None
        try:
            folder = Path(tempfile.mkdtemp(dir=self._claimed()))
            for path, content in files.items():
                target = folder / name / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        except OSError as error:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            raise ConfigError(f"the files cannot be written: {error.strerror}; see --cache-folder") from error
        return str(folder / name)

    def remove(self, folder: str) -> None:
        """Remove a folder that ``write`` made."""
        shutil.rmtree(Path(folder).parent, ignore_errors=True)

    def close(self) -> None:
        """Remove them all."""
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def _claimed(self) -> Path:
        """This process's folder, made at the first use; others' that nobody holds any more are removed."""
        with self._turn:
            if self._own is None:
                self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
                for other in self._home.iterdir():
                    if (lock := _locked(other, "r+")) is not None:
                        shutil.rmtree(other, ignore_errors=True)
                        lock.close()
                own = Path(tempfile.mkdtemp(dir=self._home))
                self._lock = _locked(own, "w")
                self._own = own
            return self._own


def _locked(folder: Path, mode: str) -> IO[str] | None:
    """The folder's lock, held until it is closed; None when another process has it, or where there are no locks."""
    try:
        import fcntl

        lock = (folder / _LOCK).open(mode)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock
