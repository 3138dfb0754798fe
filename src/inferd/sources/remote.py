"""Repositories on object stores, web servers and in registries: a local folder that looks like the remote one.

Folders of versions are there with a stub in them; what a version holds is fetched when it is to be loaded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path, PurePosixPath

from inferd.core.errors import ConfigError, LoadFailed
from inferd.sources.blobs import BlobCache, RemoteFile, Store, locked
from inferd.sources.filesystem import FileSystemStore
from inferd.sources.registry import SCHEME, RegistryStore

logger = logging.getLogger("inferd.sources")

STUB = ".remote.json"
"""In a version's folder until it is fetched: its files."""
_AT_ONCE = 4


def is_remote(path: str) -> bool:
    """Whether ``path`` is a URL such as ``s3://bucket/models``, or a model of a registry."""
    return "://" in path or path.startswith(SCHEME)


class Mirror:
    """The local folder of one remote repository, model folder or file. Used by one thread at a time; servers that share
    a cache folder take turns."""

    def __init__(self, url: str, cache: Path, max_bytes: int = 0) -> None:
        """Raises ``MissingExtra`` and ``ConfigError`` for a URL that nothing here reads, or a cache that cannot be
        written."""
        self.url = url.rstrip("/")
        self._store = open_store(self.url)
        try:
            self._cache = BlobCache(cache, max_bytes)
        except OSError as error:
            raise ConfigError(f"the cache folder {cache} cannot be written: {error}; set --cache-folder") from None
        key = hashlib.sha256(self._store.identity.encode()).hexdigest()[:16]
        self._home = cache / "mirrors" / key
        self._state = cache / "state" / key
        self.path = self._home / (self._store.name or "models")
        self._fetched: set[str] = set()

    def refresh(self) -> None:
        """List the remote side again and make the local one alike. Versions that were fetched since the start stay as
        they are. Raises ``LoadFailed`` when it cannot be listed; then nothing is changed."""
        files = self._list()
        with self._turn():
            self._make_alike(files)

    def _make_alike(self, files: Mapping[str, RemoteFile]) -> None:
        """The local folder like ``files``."""
        if files.keys() == {""}:
            self._home.mkdir(parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)
            self._cache.place(self._store, files[""], self.path)
            return
        self.path.mkdir(parents=True, exist_ok=True)
        versions: dict[str, dict[str, RemoteFile]] = {}
        for path, file in files.items():
            folder, rest = _split(path)
            versions.setdefault(folder, {})[rest] = file
        for rest, file in versions.pop("", {}).items():
            self._place_plain(rest, file)
        for folder, content in versions.items():
            self._offer(folder, content)
        self._remove_others(set(files), set(versions))
        self._cache.trim()

    def fetch(self, folder: Path) -> None:
        """Replace the stub in a version's ``folder`` by its files, all or none. Raises ``LoadFailed``."""
        with self._turn():
            self._fetch(folder)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Raises ``LoadFailed`` where the disk fails, for want of room say, or cannot hold a name."""
        try:
            self._state.mkdir(parents=True, exist_ok=True)
            with locked(self._state / "lock"):
                yield
        except (OSError, ValueError) as error:
            raise LoadFailed(f"{self.url} cannot be kept in the cache folder: {error}") from None

    def _fetch(self, folder: Path) -> None:
        stub = folder / STUB
        if not stub.is_file():
            return
        files = {name: RemoteFile(**each) for name, each in json.loads(stub.read_text()).items()}
        total_mb = sum(file.size_bytes for file in files.values()) / (1 << 20)
        logger.info("fetching %s: %d files, %.1f MiB", self._url_of(folder), len(files), total_mb)
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="inferd-fetch") as pool:
            placed = [pool.submit(self._cache.place, self._store, f, partial / n) for n, f in files.items()]
            for each in placed:
                each.result()
        partial.mkdir(exist_ok=True)
        self._remember(folder, stub.read_text())
        shutil.rmtree(folder)
        partial.replace(folder)
        self._fetched.add(folder.relative_to(self.path).as_posix())

    def _list(self) -> Mapping[str, RemoteFile]:
        """Every remote file by its path below the root, without hidden ones and those that mark a folder."""
        try:
            found = self._store.files()
        except LoadFailed:
            raise
        # Each store raises its own kinds of errors.
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise LoadFailed(f"{self.url} cannot be listed: {reason}") from None
        left_out = _folders(found)
        left_out |= {path for path in found if any(part.startswith(".") for part in PurePosixPath(path).parts)}
        return {path: file for path, file in found.items() if path not in left_out}

    def _place_plain(self, path: str, file: RemoteFile) -> None:
        """A file outside versions, such as a ``model.toml``."""
        target = self.path / path
        mark = json.dumps(asdict(file))
        if target.is_file() and self._remembered(target) == mark:
            return
        fresh = target.with_name(f".{target.name}.partial")
        fresh.unlink(missing_ok=True)
        self._cache.place(self._store, file, fresh)
        fresh.replace(target)
        self._remember(target, mark)

    def _offer(self, folder: str, files: Mapping[str, RemoteFile]) -> None:
        """A version's folder: as it was fetched when it is still the same, else with a stub."""
        target = self.path / folder
        stub = json.dumps({name: asdict(file) for name, file in sorted(files.items())})
        if target.is_dir():
            if folder in self._fetched or self._remembered(target) == stub:
                return
            if (target / STUB).is_file() and (target / STUB).read_text() == stub:
                return
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        (target / STUB).write_text(stub)
        changed_s = max((file.changed_s for file in files.values()), default=0.0) or time.time()
        os.utime(target / STUB, (changed_s, changed_s))
        for name, file in files.items():
            if not file.size_bytes:  # a marker, perhaps
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                (target / name).touch()

    def _remove_others(self, files: set[str], versions: set[str]) -> None:
        kept = _folders(files)
        for root, folders, names in os.walk(self.path):
            for name in list(folders):
                path = Path(root, name).relative_to(self.path).as_posix()
                if path in versions:
                    folders.remove(name)
                elif path not in kept:
                    shutil.rmtree(self.path / path, ignore_errors=True)
                    self._fetched.discard(path)
                    folders.remove(name)
            for name in names:
                path = Path(root, name).relative_to(self.path).as_posix()
                if path not in files:
                    (self.path / path).unlink(missing_ok=True)

    def _mark(self, target: Path) -> Path:
        return self._state / hashlib.sha256(target.relative_to(self.path).as_posix().encode()).hexdigest()

    def _remember(self, target: Path, mark: str) -> None:
        self._mark(target).write_text(mark)

    def _remembered(self, target: Path) -> str:
        mark = self._mark(target)
        return mark.read_text() if mark.is_file() else ""

    def _url_of(self, folder: Path) -> str:
        return f"{self.url}/{folder.relative_to(self.path).as_posix()}"


def _split(path: str) -> tuple[str, str]:
    """The version's folder that a file lies in, "" for none, and its path from there."""
    parts = PurePosixPath(path).parts
    for at, part in enumerate(parts[:-1]):
        if part.isascii() and part.isdecimal() and part[0] != "0":
            return "/".join(parts[: at + 1]), "/".join(parts[at + 1 :])
    return "", path


def _folders(paths: Iterable[str]) -> set[str]:
    """Every folder that one of ``paths`` lies in, "" for the root."""
    parents = {parent.as_posix() for path in paths for parent in PurePosixPath(path).parents}
    return {"" if parent == "." else parent for parent in parents}


def open_store(url: str) -> Store:
    """Where ``url`` leads. Raises ``MissingExtra`` and ``ConfigError`` for one that nothing here reads."""
    return RegistryStore(url) if url.startswith(SCHEME) else FileSystemStore(url)
