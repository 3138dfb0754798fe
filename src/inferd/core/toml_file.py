"""Read a TOML file and know where each of its keys stands, for messages that name file and line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferd.core.errors import ConfigError
from inferd.core.schema import suggestion

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class TomlFile:
    """A parsed file. ``values`` is what ``tomllib`` made of it."""

    path: Path
    text: str
    values: dict[str, Any]

    def where(self, *key: str | int) -> str:
        """``model.toml:12``, the line on which the statement that brings ``key`` begins.

        ``tomllib`` keeps no positions, so ever longer beginnings of the file are parsed until one holds the key:
        quadratic, but these files have tens of lines.
        """
        lines = self.text.split("\n")
        start = 1
        for count in range(1, len(lines) + 1):
            try:
                values = tomllib.loads("\n".join(lines[:count]))
            except tomllib.TOMLDecodeError:
                continue
            if _holds(values, key):
                return f"{self.path}:{start}"
            start = count + 1
        return str(self.path)

    def refuse_unknown(self, table: KeyPath, present: Iterable[str], known: Iterable[str]) -> None:
        """Raise ``ConfigError`` for the first key of ``table`` that nobody knows."""
        known = list(known)
        for key in present:
            if key not in known:
                raise ConfigError(
                    f"{self.where(*table, key)}: unknown key {dotted((*table, key))!r}{suggestion(key, known)}"
                )


def read_toml(path: Path) -> TomlFile:
    """Read ``path``. Raises ``ConfigError`` when it is absent, not UTF-8, or not TOML."""
    try:
        text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
        return TomlFile(path, text, tomllib.loads(text))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    except ValueError as error:  # UnicodeDecodeError and TOMLDecodeError are both ValueErrors
        raise ConfigError(f"{path}: {error}") from None


def dotted(key: KeyPath) -> str:
    """``input[0].shape``: how a key is shown to people."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")


def _holds(values: Any, key: KeyPath) -> bool:
    for part in key:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True
