"""Which versions stay in memory when not all of them can: those that were asked last."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from inferd.core.errors import ConfigError
from inferd.core.lifecycle import VersionState
from inferd.repository.record import VersionRecord


@dataclass(frozen=True, slots=True)
class Residency:
    """``budget_bytes`` bounds the artefacts of all loaded versions together, 0: no bound. Lazy versions that nobody has
    asked for ``idle_s`` seconds are unloaded, 0: never. Callers of a version that is not loaded wait ``wait_s`` for it,
    0: not at all."""

    budget_bytes: int = 0
    idle_s: float = 0.0
    wait_s: float = 60.0

    def check_size(self, record: VersionRecord) -> None:
        """Note the version's size. Raises ``ConfigError`` when it is larger than the whole budget."""
        if not self.budget_bytes:
            return
        record.size_bytes = record.size_bytes or version_bytes(record.artefact)
        if record.size_bytes > self.budget_bytes:
            raise ConfigError(
                f"its files are {record.size_bytes / (1 << 20):.1f} MiB, more than the whole memory budget "
                f"(--memory-budget-mb {self.budget_bytes / (1 << 20):g})"
            )

    def room_for(self, record: VersionRecord, records: Iterable[VersionRecord]) -> Sequence[VersionRecord] | None:
        """Versions to unload before ``record`` is loaded, the least recently asked first; None when those that may go
        are not enough."""
        if not self.budget_bytes:
            return ()
        held = [each for each in records if each is not record and each.loads_or_serves]
        excess = sum(each.size_bytes for each in held) + record.size_bytes - self.budget_bytes
        victims = []
        for each in sorted(filter(may_sleep, held), key=last_asked_s):
            if excess <= 0:
                break
            victims.append(each)
            excess -= each.size_bytes
        return victims if excess <= 0 else None

    def idle(self, records: Iterable[VersionRecord]) -> Sequence[VersionRecord]:
        """Versions that nobody has asked for long enough."""
        if not self.idle_s:
            return ()
        latest_s = time.monotonic() - self.idle_s
        return [each for each in records if may_sleep(each) and last_asked_s(each) < latest_s]


def may_sleep(record: VersionRecord) -> bool:
    """Whether the version is loaded, may be loaded again on a call, and nobody uses it now."""
    return (
        record.config.lifecycle.load == "lazy"
        and record.state is VersionState.READY
        and record.current
        and not record.inflight
        and not record.queue_rows
    )


def last_asked_s(record: VersionRecord) -> float:
    """When the version last executed a batch, answered from its cache, or became ready: on the monotonic clock."""
    if record.servable is None:
        return record.since_s
    cache = record.servable.cache
    return max(record.since_s, record.servable.metrics.last_batch_s, cache.last_hit_s if cache is not None else 0.0)


def version_bytes(artefact: Path) -> int:
    """The size of a version's files: of its folder, or of an artefact that has none; 0 for what is not on disk."""
    home = artefact.parent if artefact.parent.name.isdecimal() else artefact
    total = 0
    for path in home.rglob("*") if home.is_dir() else (home,):
        with suppress(OSError):  # gone since
            status = path.stat()
            total += status.st_size if S_ISREG(status.st_mode) else 0
    return total
