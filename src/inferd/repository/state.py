"""What people decided about models while the server ran, kept in one SQLite file so that it survives a restart."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from inferd.core.errors import ConfigError
from inferd.repository.model_toml import read_overrides
from inferd.repository.version_policy import check_policy

logger = logging.getLogger("inferd.repository")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (model TEXT PRIMARY KEY, decision TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS history (
    id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, model TEXT NOT NULL, version INTEGER, event TEXT NOT NULL,
    who TEXT NOT NULL, why TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS history_of_model ON history (model, id);
"""
_SCHEMA_VERSION = 1
"""SQLite's ``user_version`` of a file; 0 is a new one, or one from before files had a number, which reads the same."""
_COLUMNS = "at_ms, model, version, event, who, why"
_ADD = f"INSERT INTO history ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
KEPT = 10_000
"""Events that are kept, of all models together."""


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

    def copy(self) -> Decision:
        """One to change; ``overrides`` are never changed, but replaced."""
        return replace(self, loaded={*self.loaded}, unloaded={*self.unloaded}, labels={**self.labels})


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

    The file is made by the first decision, so that a server nobody changes leaves nothing behind. It belongs to one
    server at a time. Without a path everything is kept in memory.
    """

    def __init__(self, path: Path | None) -> None:
        """Raises ``ConfigError`` when the file cannot be read whole or another server has it."""
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._kept: deque[HistoryEvent] = deque(maxlen=KEPT)
        self._trouble = ""
        self._written: dict[str, str] = {}
        self.decisions: dict[str, Decision] = {}
        """What was decided before, by model."""
        if path is not None and os.path.lexists(path):
            self._connection = _open(path)
            self.decisions = _read(self._connection, path)

    def save(self, model: str, decision: Decision) -> None:
        """Keep ``decision``, if it is not kept already. Raises ``ConfigError`` when the disk refuses; then
        nothing was changed."""
        text = json.dumps(_to_json(decision))
        if self._path is None or self._written.get(model) == text:
            return
        self._write("INSERT OR REPLACE INTO decisions VALUES (?, ?)", (model, text))
        self._written[model] = text

    def record(self, event: HistoryEvent) -> None:
        """Add to the history. A disk that refuses costs the event, which is logged once."""
        self._kept.append(event)
        if self._connection is None:
            return
        try:
            self._write(_ADD, _row(event))
            self._write("DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?", (KEPT,))
        except ConfigError as error:
            if error.message != self._trouble:
                logger.error("the history goes on in memory: %s", error.message)
            self._trouble = error.message
        else:
            self._trouble = ""

    def history(self, model: str, limit: int = 100) -> list[HistoryEvent]:
        """The last events of a model, the latest first; those since the start when the file cannot be read."""
        if self._connection is not None and not self._trouble:
            try:
                rows = self._connection.execute(
                    f"SELECT {_COLUMNS} FROM history WHERE model = ? ORDER BY id DESC LIMIT ?",
                    (model, limit),
                )
                return [HistoryEvent(*row) for row in rows]
            except sqlite3.Error as error:
                logger.error("the state file %s cannot be read: %s", self._path, error)
        return [event for event in reversed(self._kept) if event.model == model][:limit]

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
            raise ConfigError(
                f"the state file {self._path} cannot be written: {error}; name another with --state-file"
            ) from error

    def _first(self, path: Path) -> sqlite3.Connection:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = _open(path)
        connection.executemany(_ADD, map(_row, self._kept))
        return connection


def _open(path: Path) -> sqlite3.Connection:
    if path.exists() and not path.is_file():  # SQLite would wait for ever for whoever writes into a pipe
        raise ConfigError(f"the state file {path} is no regular file; name another with --state-file")
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=0)
        # The lock is taken by the first statement and held until the connection is closed.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
        _check_schema(connection, path)
        # Otherwise each write waits for the disk, and with it every request; a crash of the machine may lose the
        # last ones.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise ConfigError(f"another server uses the state file {path}; give each its own --state-file") from None
        raise ConfigError(f"the state file {path} cannot be opened: {error}") from None
    except sqlite3.DatabaseError as error:
        raise _foreign(path, error) from None
    return connection


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Raise ``ConfigError`` for a file of somebody else, before anything is written into it."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > _SCHEMA_VERSION:
        raise ConfigError(f"the state file {path} was written by a newer inferd; give this one another --state-file")
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables - {"decisions", "history", "sqlite_sequence"}:
        raise _foreign(path, f"it has a table {min(tables)!r}")


def _read(connection: sqlite3.Connection, path: Path) -> dict[str, Decision]:
    """The decisions in a file; what cannot be read, or no longer means anything, raises ``ConfigError``."""
    try:
        connection.execute(f"SELECT {_COLUMNS} FROM history LIMIT 1")
        ((verdict,), *_) = connection.execute("PRAGMA quick_check(1)").fetchall()
        if verdict != "ok":
            raise _foreign(path, verdict)
        rows = connection.execute("SELECT model, decision FROM decisions").fetchall()
    except sqlite3.Error as error:
        connection.close()
        raise _foreign(path, error) from None
    decisions = {}
    for model, text in rows:
        try:
            decisions[model] = _from_json(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError, ConfigError) as error:
            connection.close()
            reason = error.message if isinstance(error, ConfigError) else f"{type(error).__name__} {error}"
            raise ConfigError(
                f"the state file {path} says of model {model!r} what cannot be used ({reason}); "
                "move it away to start afresh"
            ) from None
    return decisions


def _foreign(path: Path, reason: object) -> ConfigError:
    return ConfigError(f"{path} is no state file of inferd, or damaged: {reason}; move it away to start afresh")


def _row(event: HistoryEvent) -> tuple[Any, ...]:
    return event.at_ms, event.model, event.version, event.event, event.who, event.why


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
    """Members that an older inferd did not write have their defaults."""
    decision = Decision(
        str(values.get("policy", "")),
        set(map(int, values.get("loaded", ()))),
        set(map(int, values.get("unloaded", ()))),
        bool(values.get("off", False)),
        {str(label): int(version) for label, version in values.get("labels", {}).items()},
        dict(values.get("overrides", {})),
    )
    if decision.policy:
        check_policy(decision.policy)
    read_overrides(decision.overrides)
    return decision
