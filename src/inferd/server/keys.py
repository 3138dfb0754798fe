"""API keys at rest: the file that ``inferd keys new`` writes and the guard reads. It holds hashes, never a key.

A TOML file of ``[[key]]`` tables: ``id``, ``scopes``, ``sha256`` (of the key's text, in hex) and ``expires``, a date
and time with an offset, or nothing for a key that does not expire.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inferd.core.errors import ConfigError
from inferd.core.schema import suggestion
from inferd.core.toml_file import TomlFile, read_toml

SCOPES = ("inference", "admin", "metrics")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Key:
    """One key: ``sha256`` is the hex digest of its text; ``expires`` is aware, None means never."""

    id: str
    scopes: frozenset[str]
    sha256: str
    expires: datetime | None = None


def new_key(key_id: str, scopes: Iterable[str], expires: datetime | None = None) -> tuple[str, Key]:
    """A fresh secret of 256 random bits, and what is kept of it. Raises ``ConfigError`` for an unknown scope."""
    secret = f"inferd_{secrets.token_urlsafe(32)}"
    return secret, _key(key_id, scopes, hashlib.sha256(secret.encode()).hexdigest(), expires, "the new key")


def load_keys(path: Path) -> tuple[Key, ...]:
    """The keys of a file. Raises ``ConfigError`` with file and line for whatever is wrong with it."""
    document = read_toml(path)
    document.refuse_unknown((), document.values, ["key"])
    tables = document.values.get("key", [])
    if not isinstance(tables, list):
        raise ConfigError(f"{document.where('key')}: key is written [[key]], once for each key")
    return _distinct([_read_key(document, i, table) for i, table in enumerate(tables)], str(path))


def keys_from_environment(value: str) -> tuple[Key, ...]:
    """The keys of ``INFERD_API_KEYS``: ``id:scope+scope:sha256`` entries, separated by commas."""
    keys = []
    for entry in filter(None, (part.strip() for part in value.split(","))):
        parts = entry.split(":")
        if len(parts) != 3:
            raise ConfigError("INFERD_API_KEYS takes id:scope+scope:sha256 entries, separated by commas")
        keys.append(_key(parts[0], parts[1].split("+"), parts[2], None, f"INFERD_API_KEYS, key {parts[0]!r}"))
    return _distinct(keys, "INFERD_API_KEYS")


def append_key(path: Path, key: Key) -> None:
    """Add ``key`` to the file, which is made readable by its owner alone when it is new.

    Raises ``ConfigError`` when the file is not one of keys or has a key of that id.
    """
    present = load_keys(path) if path.exists() else ()
    _distinct([*present, key], str(path))
    scopes = ", ".join(f'"{scope}"' for scope in sorted(key.scopes))
    lines = ["[[key]]", f'id = "{key.id}"', f"scopes = [{scopes}]", f'sha256 = "{key.sha256}"']
    if key.expires is not None:
        lines.append(f"expires = {key.expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
        file.write("\n" * bool(present) + "\n".join(lines) + "\n")


def _read_key(document: TomlFile, index: int, table: Any) -> Key:
    where = document.where("key", index)
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: key is written [[key]], once for each key")
    document.refuse_unknown(("key", index), table, ["id", "scopes", "sha256", "expires"])
    scopes, expires = table.get("scopes"), table.get("expires")
    if not isinstance(scopes, list):
        raise ConfigError(f"{where}: scopes takes a list of {', '.join(SCOPES)}")
    if expires is not None and not (isinstance(expires, datetime) and expires.tzinfo):
        raise ConfigError(f"{where}: expires takes a date and time with an offset, such as 2030-01-01T00:00:00Z")
    return _key(table.get("id"), scopes, table.get("sha256"), expires, where)


def _key(key_id: Any, scopes: Iterable[Any], sha256: Any, expires: datetime | None, where: str) -> Key:
    """A ``Key`` whose parts are what they should be, or ``ConfigError`` beginning with ``where``."""
    if not (isinstance(key_id, str) and _ID.fullmatch(key_id)):
        raise ConfigError(f"{where}: id takes letters, digits, '.', '_' and '-', at most 64, got {key_id!r}")
    if not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
        raise ConfigError(f"{where}: sha256 takes 64 lower-case hex digits, as `inferd keys new` writes them")
    scopes = list(scopes)
    if not scopes:
        raise ConfigError(f"{where}: scopes takes at least one of {', '.join(SCOPES)}")
    for scope in scopes:
        if scope not in SCOPES:
            raise ConfigError(f"{where}: unknown scope {scope!r}{suggestion(str(scope), list(SCOPES))}")
    return Key(key_id, frozenset(scopes), sha256, expires)


def _distinct(keys: list[Key], where: str) -> tuple[Key, ...]:
    ids = [key.id for key in keys]
    for i, key_id in enumerate(ids):
        if key_id in ids[:i]:
            raise ConfigError(f"{where}: two keys have the id {key_id!r}")
    return tuple(keys)
