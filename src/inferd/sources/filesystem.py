"""Object stores and web servers, through fsspec, as a store that is mirrored."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from inferd.core.errors import ConfigError, LoadFailed, MissingExtra
from inferd.sources.blobs import RemoteFile

logger = logging.getLogger("inferd.sources")

CHUNK_BYTES = 8 << 20
PROGRESS_S = 5.0
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "az": "azure"}
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")
_TAGS = ("ETag", "etag", "checksum", "md5Hash", "content_md5", *_TIMES)
"""What file systems tell of a file's content or time, the best first."""


class FileSystemStore:
    """A URL such as ``s3://bucket/models``. See ``Store``."""

    def __init__(self, url: str) -> None:
        """Raises ``MissingExtra`` and ``ConfigError`` for a URL that nothing here reads."""
        self.identity = url
        self._filesystem, self._root = _open(url)
        self.name = PurePosixPath(self._root).name

    def files(self) -> Mapping[str, RemoteFile]:
        """See ``Store``."""
        self._filesystem.invalidate_cache()
        found = self._filesystem.find(self._root, detail=True)
        if not found:
            raise LoadFailed(f"{self.identity} holds no files, or does not exist")
        files = {}
        for path, info in found.items():
            below = PurePosixPath(path).relative_to(PurePosixPath(self._root)).as_posix() if path != self._root else ""
            files["" if below == "." else below] = self._file(path, info)
        return files

    def append(self, file: RemoteFile, partial: Path) -> None:
        """See ``Store``; in pieces, so that what came before an interruption stays."""
        told_s = time.monotonic()
        with partial.open("ab") as out:
            while out.tell() < file.size_bytes:
                end = min(out.tell() + CHUNK_BYTES, file.size_bytes)
                piece = self._filesystem.cat_file(file.path, start=out.tell(), end=end)
                if not piece:
                    raise OSError("the store sent nothing more")
                out.write(piece)
                if time.monotonic() - told_s > PROGRESS_S:
                    told_s = time.monotonic()
                    logger.info("%s: %d of %d MiB", file.path, out.tell() >> 20, file.size_bytes >> 20)

    def _file(self, path: str, info: Mapping[str, Any]) -> RemoteFile:
        if info.get("size") is None:
            info = self._filesystem.info(path)
        tag = next((str(info[mark]) for mark in _TAGS if info.get(mark)), "")
        changed = next((info[mark] for mark in _TIMES if info.get(mark)), 0)
        return RemoteFile(path, int(info.get("size") or 0), tag, _seconds(changed))


def _seconds(changed: object) -> float:
    """A time as file systems tell it, in seconds since 1970; 0 for what is none."""
    if isinstance(changed, datetime):
        return changed.timestamp()
    return float(changed) if isinstance(changed, int | float) else 0.0


def _open(url: str) -> tuple[Any, str]:
    scheme = url.partition("://")[0]
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtra(url, EXTRAS.get(scheme, "remote")) from error
    try:
        filesystem, root = fsspec.url_to_fs(url)
    except ImportError as error:
        raise MissingExtra(url, EXTRAS.get(scheme, "remote")) from error
    except ValueError as error:
        raise ConfigError(f"{url}: {error}") from None
    return filesystem, root.rstrip("/")
