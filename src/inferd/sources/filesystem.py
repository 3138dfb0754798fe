"""Object stores and web servers, through fsspec, as a store that is mirrored."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from inferd.core.errors import ConfigError, LoadFailed, MissingExtra
from inferd.sources.blobs import RemoteFile

logger = logging.getLogger("inferd.sources")

CHUNK_BYTES = 8 << 20
PROGRESS_S = 5.0
LISTING_S = 60.0
"""How long a store may take to list a repository; some libraries would go on for minutes where nobody answers."""
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
"""The object stores, which list all that is below a path at once, and what brings their libraries."""
WEB = ("http", "https")
_ADVICE = {
    "azure": "; the account is that of AZURE_STORAGE_CONNECTION_STRING, of AZURE_STORAGE_ACCOUNT_NAME, or of"
    " abfs://container@account.dfs.core.windows.net/path"
}
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")
_TAGS = ("ETag", "etag", "checksum", "md5Hash", "content_md5", "Last-Modified", *_TIMES)
"""What file systems tell of a file's content or time, the best first."""


class FileSystemStore:
    """A URL such as ``s3://bucket/models``. See ``Store``."""

    def __init__(self, url: str) -> None:
        """Raises ``MissingExtra`` and ``ConfigError`` for a URL that nothing here reads."""
        self.identity = url
        self._filesystem, self._root = _open(url)
        self._flat = _scheme(url) in EXTRAS
        self._web = _scheme(url) in WEB
        self.name = PurePosixPath(unquote(urlsplit(self._root).path) if self._web else self._root).name
        self._limit = {"timeout": LISTING_S} if self._filesystem.async_impl else {}

    def files(self) -> Mapping[str, RemoteFile]:
        """See ``Store``."""
        self._filesystem.invalidate_cache()
        try:
            found = dict(self._find() if self._flat else self._walk(self._root))
        except FileNotFoundError:
            found = {}
        except TimeoutError as error:
            silence = f"no answer within {LISTING_S:.0f} seconds; look at its address and the credentials"
            raise TimeoutError(str(error) or silence) from None
        if not found:
            raise LoadFailed(f"{self.identity} holds no files, or does not exist")
        return {self._below(path): self._file(path, info) for path, info in found.items()}

    def append(self, file: RemoteFile, partial: Path) -> None:
        """See ``Store``; in pieces, so that what came before an interruption stays."""
        told_s = time.monotonic()
        with partial.open("ab") as out:
            while out.tell() < file.size_bytes:
                start, end = out.tell(), min(out.tell() + CHUNK_BYTES, file.size_bytes)
                piece = self._filesystem.cat_file(file.path, start=start, end=end)
                if not piece:
                    raise OSError("the store sent nothing more")
                if len(piece) > end - start:  # all of it, from a web server that knows no ranges
                    out.truncate(0)
                out.write(piece)
                if time.monotonic() - told_s > PROGRESS_S:
                    told_s = time.monotonic()
                    logger.info("%s: %d of %d MiB", file.path, out.tell() >> 20, file.size_bytes >> 20)
        if self._flat or self._web:
            self._hold_unchanged(file)

    def _hold_unchanged(self, file: RemoteFile) -> None:
        """Raise ``LoadFailed`` where ``file`` is no more what was listed: what came may be of one and the other."""
        self._filesystem.invalidate_cache()
        now = self._file(file.path, self._filesystem.info(file.path))
        if (now.tag, now.size_bytes) != (file.tag, file.size_bytes):
            raise LoadFailed(f"{file.path} changed while it was fetched")

    def _find(self) -> Mapping[str, Mapping[str, Any]]:
        """What an object store has below the root, or at it. Raises ``FileNotFoundError`` for no such bucket."""
        found = self._filesystem.find(self._root, detail=True, **self._limit)
        # For a root that is one file, adlfs answers with its name alone.
        listed = found if isinstance(found, dict) else {path: self._filesystem.info(path) for path in found}
        # What a store's console makes for an empty folder: an object without content, called like it.
        return {path: info for path, info in listed.items() if not path.endswith("/")}

    def _walk(self, folder: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """What lies below ``folder``, or the file that it is. Not by fsspec's ``find``, which takes a folder that
        cannot be listed for an empty one."""
        listed = self._filesystem.ls(folder, detail=True, **self._limit)
        if not listed and folder == self._root:
            yield folder, self._filesystem.info(folder)
        for info in listed:
            path = info["name"].rstrip("/")
            if PurePosixPath(path).name.startswith(".") or (self._web and "?" in path):  # the page in another order
                continue
            if info["type"] != "directory":
                yield path, info
                continue
            try:
                yield from self._walk(path)
            except FileNotFoundError:  # a link that leads nowhere, or gone since
                continue

    def _below(self, path: str) -> str:
        """``path`` from the root on, as a name on a disk; "" for the root."""
        if path == self._root:
            return ""
        below = PurePosixPath(path).relative_to(PurePosixPath(self._root)).as_posix()
        return unquote(below) if self._web else below

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
    scheme = _scheme(url)
    extra = EXTRAS.get(scheme, "remote")
    # Else gcsfs asks over gRPC, with credentials, what kind of bucket each is, before every call.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    # It writes a traceback for what it raises anyway.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtra(url, extra) from error
    try:
        filesystem, root = fsspec.url_to_fs(url)
    except ImportError as error:
        if scheme in EXTRAS or scheme in WEB:
            raise MissingExtra(url, extra) from error
        raise ConfigError(f"{url}: {error}") from None
    # Each file system raises its own kinds of errors.
    except Exception as error:
        raise ConfigError(f"{url}: {error}{_ADVICE.get(extra, '')}") from None
    return filesystem, root.rstrip("/")


def _scheme(url: str) -> str:
    return url.partition("://")[0]
