"""A local cache of remote files by their content: downloaded once, in pieces that survive an interruption, bounded."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from inferd.core.errors import LoadFailed

logger = logging.getLogger("inferd.sources")

ATTEMPTS = 4
FIRST_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a remote repository. ``tag`` changes when its content does: an ETag, a checksum, a time.
    ``changed_s`` is when that was, in seconds since 1970, 0 where the store does not say."""

    path: str
    size_bytes: int
    tag: str
    changed_s: float = 0.0


class Store(Protocol):
    """A place of files that a ``Mirror`` keeps a local folder like. Both methods raise whatever its library does."""

    name: str
    """What the folder is called; "" where the place has no name."""
    identity: str
    """What tells it from every other place."""

    def files(self) -> Mapping[str, RemoteFile]:
        """Every file by its path below the root, "" for a root that is one file; there is one at least. Used by one
        thread at a time."""
        ...

    def append(self, file: RemoteFile, partial: Path) -> None:
        """Write what is missing of ``file`` to the end of ``partial``, which may be there from another attempt. Used by
        several threads. ``LoadFailed`` says that ``file`` is no more what was listed, and ``partial`` worth nothing."""
        ...


class BlobCache:
    """Files under ``root``, named by their SHA-256; an index remembers which remote file had which. Safe to share
    between threads and processes. Together they take at most ``max_bytes``, 0: no bound; those in use stay."""

    def __init__(self, root: Path, max_bytes: int = 0) -> None:
        self._blobs = root / "blobs"
        self._index = root / "index"
        self._partial = root / "partial"
        self._max_bytes = max_bytes
        for folder in (self._blobs, self._index, self._partial):
            folder.mkdir(parents=True, exist_ok=True)

    def place(self, store: Store, file: RemoteFile, target: Path) -> None:
        """Put the content of ``file`` at ``target``, as a link where the disk has them. Raises ``LoadFailed``."""
        key = hashlib.sha256(f"{file.path}\0{file.size_bytes}\0{file.tag}".encode()).hexdigest()
        blob = self._known(key, file)
        if blob is None:
            with locked(self._partial / f"{key}.lock"):
                # Another server may have fetched it meanwhile.
                blob = self._known(key, file) or self._download(store, file, key)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(blob, target)
        except OSError:  # another disk, or one without links
            shutil.copyfile(blob, target)

    def trim(self) -> None:
        """Remove blobs that no folder links to, the longest unused first, until the rest fits."""
        if not self._max_bytes:
            return
        blobs = [(blob, blob.stat()) for blob in self._blobs.iterdir()]
        excess = sum(stat.st_size for _, stat in blobs) - self._max_bytes
        for blob, stat in sorted(blobs, key=lambda pair: pair[1].st_atime):
            if excess > 0 and stat.st_nlink == 1:
                blob.unlink(missing_ok=True)
                excess -= stat.st_size

    def _known(self, key: str, file: RemoteFile) -> Path | None:
        entry = self._index / key
        if not entry.is_file():
            return None
        blob = self._blobs / json.loads(entry.read_text())["sha256"]
        return blob if blob.is_file() and blob.stat().st_size == file.size_bytes else None

    def _download(self, store: Store, file: RemoteFile, key: str) -> Path:
        partial = self._partial / key
        pause_s = FIRST_PAUSE_S
        for attempt in range(1, ATTEMPTS + 1):
            try:
                store.append(file, partial)
                break
            except LoadFailed:
                partial.unlink(missing_ok=True)
                raise
            # Each store raises its own kinds of errors.
            except Exception as error:
                if attempt == ATTEMPTS or isinstance(error, FileNotFoundError | PermissionError):
                    raise LoadFailed(f"{file.path} cannot be fetched: {_reason(error)}") from None
                logger.warning("%s: %s; trying again", file.path, _reason(error))
                time.sleep(pause_s)
                pause_s *= 2
        if partial.stat().st_size != file.size_bytes:
            size = partial.stat().st_size
            partial.unlink()
            raise LoadFailed(f"{file.path} has {size} bytes where its store says {file.size_bytes}")
        with partial.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        blob = self._blobs / digest
        partial.replace(blob)
        entry = self._index / f".{key}"
        entry.write_text(json.dumps({"sha256": digest, "path": file.path}))
        entry.replace(self._index / key)
        return blob


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone in this block among all who use ``path``, threads and processes, where the system has such locks. The lock
    of a process that dies is free."""
    with path.open("w") as lock:
        with suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info("waiting for another server that fetches into the same cache folder")
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
