"""System shared memory: objects of POSIX shared memory that callers on this machine let the server read and write.

A region belongs to the caller who registered it; nobody else sees its name. Its bytes are read and written through the
object's descriptor, never mapped: a caller who shrinks its object would otherwise kill the process (SIGBUS), and one
who changes it while a model runs could get past the checks that native code makes of its inputs. That costs one copy.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inferd.core.errors import Conflict, InvalidRequest, QuotaExceeded, RouteNotFound, Unsupported

OWNER = b":principal"
"""Stands among the headers with the caller's key id where regions are allowed; no caller can send such a name."""
FOLDER = Path("/dev/shm")
MAX_REGIONS = 256
"""Of one caller: each holds a file descriptor."""
_KEY = re.compile(r"/?([^/\0]{1,255})")
_NAME_CHARACTERS = 256
_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


class RegionSlice(NamedTuple):
    """Where a tensor lies: ``offset`` counts from the region's own beginning. In bytes."""

    region: str
    offset: int
    size: int


@dataclass(slots=True)
class Region:
    """A registered part of an object. ``offset`` and ``size`` are in bytes of the object."""

    name: str
    key: str
    offset: int
    size: int
    descriptor: int
    lock: threading.Lock = field(default_factory=threading.Lock)

    def at(self, place: RegionSlice) -> int:
        """Where ``place`` begins in the object. Raises ``InvalidRequest`` when it is not within the region."""
        if place.offset + place.size > self.size:
            raise InvalidRequest(
                f"{place.size} bytes from {place.offset} reach past the end of the region {self.name!r}, "
                f"which has {self.size}"
            )
        if self.descriptor < 0:
            raise _unknown(self.name)
        return self.offset + place.offset

    def close(self) -> None:
        """Let go of the object, once nobody reads or writes it."""
        with self.lock:
            os.close(self.descriptor)
            self.descriptor = -1


class SharedRegions:
    """The regions of all callers, by owner and name. Any thread may call it."""

    def __init__(self, max_bytes: int) -> None:
        """``max_bytes`` bounds one tensor."""
        self._max_bytes = max_bytes
        self._regions: dict[str, dict[str, Region]] = {}

    def register(self, owner: str, name: str, key: str, offset: int, size: int) -> None:
        """Take ``size`` bytes from ``offset`` of the object ``key``, such as ``/tensors``, under ``name``.

        Raises ``InvalidRequest`` for a hostile key, an object that is not there and bounds it does not have,
        ``Conflict`` for a name that is taken, ``QuotaExceeded`` for too many.
        """
        if not 0 < len(name) <= _NAME_CHARACTERS:
            raise InvalidRequest(f"a region's name has 1 to {_NAME_CHARACTERS} characters")
        owned = self._regions.setdefault(owner, {})
        if name in owned:
            raise Conflict(f"the region {name!r} is registered already; unregister it first")
        if len(owned) >= MAX_REGIONS:
            raise QuotaExceeded(f"{MAX_REGIONS} regions are registered; unregister one first")
        descriptor = _open(key)
        try:
            _check_bounds(key, offset, size, os.fstat(descriptor))
        except InvalidRequest:
            os.close(descriptor)
            raise
        owned[name] = Region(name, key, offset, size, descriptor)

    def status(self, owner: str, name: str = "") -> Sequence[Region]:
        """The region of that name, or all of the caller's. Raises ``RouteNotFound`` for a name nobody registered."""
        owned = self._regions.get(owner, {})
        if not name:
            return tuple(owned.values())
        if name not in owned:
            raise RouteNotFound(f"there is no shared memory region {name[:100]!r}")
        return (owned[name],)

    def unregister(self, owner: str, name: str = "") -> None:
        """Let go of the region, or of all of the caller's. Nothing happens when there is none."""
        owned = self._regions.get(owner, {})
        for each in [name] if name else list(owned):
            region = owned.pop(each, None)
            if region is not None:
                region.close()

    def close(self) -> None:
        """Let go of everything."""
        for owner in list(self._regions):
            self.unregister(owner)

    def read(self, owner: str, place: RegionSlice) -> np.ndarray:
        """A copy of the bytes at ``place``, aligned. Raises ``InvalidRequest``."""
        if place.size > self._max_bytes:
            raise InvalidRequest(f"{place.size} bytes in shared memory are over the limit of {self._max_bytes}")
        region = self._find(owner, place.region)
        content = np.empty(place.size, np.uint8)
        with region.lock:
            done = os.preadv(region.descriptor, [content.data], region.at(place)) if place.size else 0
        if done != place.size:
            raise InvalidRequest(f"the object {region.key!r} of the region {region.name!r} has become shorter")
        content.flags.writeable = False
        return content

    def write(self, owner: str, place: RegionSlice, content: memoryview) -> None:
        """Put ``content`` at ``place``. Raises ``InvalidRequest`` when there is less room than that."""
        region = self._find(owner, place.region)
        if content.nbytes > place.size:
            raise InvalidRequest(
                f"the output has {content.nbytes} bytes, its shared_memory_byte_size in the region "
                f"{place.region!r} is {place.size}"
            )
        with region.lock:
            at = region.at(place)
            if os.fstat(region.descriptor).st_size < at + content.nbytes:  # else writing would make it longer
                raise InvalidRequest(f"the object {region.key!r} of the region {region.name!r} has become shorter")
            try:
                done = os.pwrite(region.descriptor, content, at)
            except OSError as error:
                raise InvalidRequest(f"the region {region.name!r} cannot be written: {error.strerror}") from None
        if done != content.nbytes:
            raise InvalidRequest(f"the region {region.name!r} has taken {done} of {content.nbytes} bytes")

    def _find(self, owner: str, name: str) -> Region:
        region = self._regions.get(owner, {}).get(name)
        if region is None:
            raise _unknown(name)
        return region


class CallerMemory:
    """The regions that one caller may use."""

    __slots__ = ("_owner", "_regions")

    def __init__(self, regions: SharedRegions, headers: Mapping[bytes, bytes]) -> None:
        self._regions = regions
        self._owner = headers[OWNER].decode()

    def read(self, place: RegionSlice) -> np.ndarray:
        """See ``SharedRegions``."""
        return self._regions.read(self._owner, place)

    def write(self, place: RegionSlice, content: memoryview) -> int:
        """See ``SharedRegions``; the number of bytes written."""
        self._regions.write(self._owner, place, content)
        return content.nbytes


def _unknown(name: str) -> InvalidRequest:
    return InvalidRequest(f"there is no shared memory region {name[:100]!r}; register it first")


def _open(key: str) -> int:
    """A descriptor of the object ``key``. A key is one name: nothing of it may lead elsewhere in the file system."""
    match = _KEY.fullmatch(key)
    if match is None or match[1] in (".", ".."):
        raise InvalidRequest(f"{key[:100]!r} is no key of shared memory: one name, with at most one '/' before it")
    if not FOLDER.is_dir():
        raise Unsupported("this system has no shared memory objects that a server could open")
    try:
        descriptor = os.open(FOLDER / match[1], _FLAGS)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such name"
        raise InvalidRequest(f"the shared memory object {key[:100]!r} cannot be opened: {reason}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidRequest(f"{key[:100]!r} is no shared memory object")
    return descriptor


def _check_bounds(key: str, offset: int, size: int, found: os.stat_result) -> None:
    if offset < 0 or size <= 0 or offset + size > found.st_size:
        raise InvalidRequest(
            f"{size} bytes from {offset} are not within the shared memory object {key!r}, which has {found.st_size}"
        )
