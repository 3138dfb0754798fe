"""One attempt to serve one version, and where it stands."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inferd.core.config import ModelConfig
from inferd.core.errors import InferdError
from inferd.core.lifecycle import VersionState, move
from inferd.repository.artefact import Print
from inferd.repository.loader import LoadedVersion
from inferd.repository.state import now_ms
from inferd.serving.servable import Servable

DORMANT = "loaded on its first call"
CHANGED = "its files have changed since it was loaded; load it again to serve them"
COMING = frozenset({VersionState.PENDING, VersionState.LOADING, VersionState.WARMING})
_RESIDENT = frozenset(VersionState) - {VersionState.UNLOADED, VersionState.FAILED}


@dataclass(slots=True)
class VersionRecord:
    """One attempt to serve one version; a retry or a reload is a new record. Changed on the loop's thread only.

    ``attempt`` counts from 1. ``initial`` is one the server started with; ``current`` is False once it is to be
    replaced; ``retry_at`` is when, on the monotonic clock in seconds, a failed one may be tried again (0: never).
    A ``dormant`` one is pending until somebody asks for it; its reason is what it waits for besides. ``size_bytes`` is
    that of its artefact, once it is loaded where memory has a budget. It is ``changed`` when the artefact there now is
    not the one of the ``print``, which was loaded. ``error`` is why it failed to load, ``step`` what loads it.
    ``since_ms`` is when the state began, in milliseconds since 1970, ``since_s`` the same in seconds on the monotonic
    clock.
    """

    config: ModelConfig
    version: int
    artefact: Path
    attempt: int = 1
    initial: bool = False
    current: bool = True
    retry_at: float = 0.0
    dormant: bool = False
    size_bytes: int = 0
    since_ms: int = field(default_factory=now_ms)
    since_s: float = field(default_factory=time.monotonic)
    state: VersionState = VersionState.PENDING
    reason: str = ""
    print: Print = ()
    changed: bool = False
    error: InferdError | None = None
    step: asyncio.Task[None] | None = None
    loaded: LoadedVersion | None = None
    servable: Servable | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests: READY, with an instance that is not beyond its compute timeout."""
        return self.state is VersionState.READY and self.servable is not None and not self.servable.batcher.wedged

    @property
    def loads_on_call(self) -> bool:
        """Whether callers get it once it is loaded, because they ask for it."""
        return self.dormant or (self.config.lifecycle.load == "lazy" and self.state in COMING)

    @property
    def loads_or_serves(self) -> bool:
        """Whether it needs memory now, or soon."""
        return self.state in _RESIDENT and not self.dormant

    @property
    def model(self) -> str:
        """The model's name."""
        return self.config.name

    @property
    def queue_rows(self) -> int:
        """Rows waiting now."""
        return self.servable.batcher.queue_rows if self.servable is not None else 0

    @property
    def inflight(self) -> int:
        """Requests that hold this version now."""
        return self.servable.inflight if self.servable is not None else 0

    @property
    def load_s(self) -> float:
        """Seconds from the start of loading to the end of warm-up; 0 while there is none."""
        return self.loaded.load_s + self.loaded.warmup_s if self.loaded is not None else 0.0

    def describe(self) -> dict[str, Any]:
        """Model, version, state and, where there is one, the reason."""
        wedged = self.state is VersionState.READY and not self.is_ready
        reason = "every instance runs beyond its compute timeout" if wedged else self.reason
        if self.changed:
            reason = CHANGED
        if self.dormant:
            reason = self.reason or DORMANT
        entry = {"model": self.config.name, "version": self.version, "state": self.state.value}
        return {**entry, "reason": reason} if reason else entry

    def advance(self, to: VersionState, reason: str = "") -> None:
        """Move forward; an illegal move is a defect and raises ``ValueError``."""
        self.state = move(self.state, to)
        self.since_ms, self.since_s = now_ms(), time.monotonic()
        self.reason = reason
