"""What people decided about models while the server ran, kept in one SQLite file so that it survives a restart."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from inferd.core.errors import ConfigError

logger = logging.getLogger("inferd.repository")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (model TEXT PRIMARY KEY, decision TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS history (
    id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, model TEXT NOT NULL, version INTEGER, event TEXT NOT NULL,
    who TEXT NOT NULL, why TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS history_of_model ON history (model, id);
"""
_KEPT = 10_000


@dataclass(slots=True)
class Decision:
    """What was decided about one model by the API: a version policy ("" for the configured one), versions that are
    served whatever the policy says, versions that are not, whether the whole model is off, its labels, and what is laid
    over its configuration, in the form of ``model.toml``."""

    policy: str = ""
    loaded: set[int] = field(default_factory=set)
    unloaded: set[int] = field(default_factory=set)
    off: bool = False
    labels: dict[str, int] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """Something that happened to a model. ``at_ms`` counts from 1970, ``who`` is the id of a key or "inferd"."""

    at_ms: int
    model: str
    version: int | None
    event: str
    who: str
    why: str


class StateStore:
    """Decisions and history. Used on the loop's thread; a write takes well under a millisecond.

    The file is made by the first write, so that a server nobody changes leaves nothing behind. It belongs to one server
    at a time. Without a path everything is kept in memory.
    """

    def __init__(self, path: Path | None) -> None:
        """Raises ``ConfigError`` when the file cannot be read or another server has it."""
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._kept: list[HistoryEvent] = []
        if path is not None and path.exists():
            self._connection = self._open(path)

    def decisions(self) -> dict[str, Decision]:
        """What was decided, by model."""
        if self._connection is None:
            return {}
        rows = self._connection.execute("SELECT model, decision FROM decisions").fetchall()
        return {model: _from_json(json.loads(text)) for model, text in rows}

    def save(self, model: str, decision: Decision) -> None:
        """Keep ``decision``. Raises ``ConfigError`` when the disk refuses; then nothing was changed."""
        if self._path is None:
            return
        self._write("INSERT OR REPLACE INTO decisions VALUES (?, ?)", (model, json.dumps(_to_json(decision))))

    def record(self, event: HistoryEvent) -> None:
        """Add to the history; only the last events are kept in memory when there is no file yet."""
        self._kept = [*self._kept[-_KEPT + 1 :], event]
        if self._connection is not None:
            row = (event.at_ms, event.model, event.version, event.event, event.who, event.why)
            self._write("INSERT INTO history (at_ms, model, version, event, who, why) VALUES (?, ?, ?, ?, ?, ?)", row)

    def history(self, model: str, limit: int = 100) -> list[HistoryEvent]:
        """The last events of a model, the latest first."""
        if self._connection is None:
            return [event for event in reversed(self._kept) if event.model == model][:limit]
        rows = self._connection.execute(
            "SELECT at_ms, model, version, event, who, why FROM history WHERE model = ? ORDER BY id DESC LIMIT ?",
            (model, limit),
        )
        return [HistoryEvent(*row) for row in rows]

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        try:
            if self._connection is None and self._path is not None:
                self._connection = self._first(self._path)
            if self._connection is not None:
                self._connection.execute(statement, values)
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"the state file {self._path} cannot be written: {error}") from error

    def _first(self, path: Path) -> sqlite3.Connection:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = self._open(path)
        for each in self._kept:
            row = (each.at_ms, each.model, each.version, each.event, each.who, each.why)
            connection.execute(
                "INSERT INTO history (at_ms, model, version, event, who, why) VALUES (?, ?, ?, ?, ?, ?)", row
            )
        return connection

    def _open(self, path: Path) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(path, isolation_level=None, timeout=0)
            # The lock is taken by the first statement and held until the connection is closed.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
            # Otherwise each write waits for the disk, and with it every request; a crash of the machine may lose the
            # last ones.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_SCHEMA)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise ConfigError(
                    f"another server uses the state file {path}; give each its own --state-file"
                ) from None
            raise ConfigError(f"the state file {path} cannot be opened: {error}") from None
        except sqlite3.DatabaseError as error:
            raise ConfigError(f"{path} is no state file of inferd: {error}; move it away to start afresh") from None
        return connection


def open_store(file: str, paths: Sequence[str]) -> StateStore:
    """The store in ``file``; by default one for these paths, in the user's state folder (XDG Base Directory), or in
    memory when another server has that one. Raises ``ConfigError`` for a ``file`` that cannot be used."""
    if file:
        return StateStore(Path(file))
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    key = sha256("\0".join(os.path.abspath(path) for path in paths).encode()).hexdigest()[:16]
    try:
        return StateStore(home / "inferd" / f"{key}.db")
    except ConfigError as error:
        logger.warning("%s; what is decided now is forgotten at the end", error.message)
        return StateStore(None)


def now_ms() -> int:
    """Milliseconds since 1970, for people to read."""
    return time.time_ns() // 1_000_000


def _to_json(decision: Decision) -> dict[str, Any]:
    return {
        "policy": decision.policy,
        "loaded": sorted(decision.loaded),
        "unloaded": sorted(decision.unloaded),
        "off": decision.off,
        "labels": decision.labels,
        "overrides": decision.overrides,
    }


def _from_json(values: Mapping[str, Any]) -> Decision:
    return Decision(
        values["policy"],
        set(values["loaded"]),
        set(values["unloaded"]),
        values["off"],
        dict(values["labels"]),
        dict(values.get("overrides", {})),
    )
