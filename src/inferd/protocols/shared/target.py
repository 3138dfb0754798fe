"""From a path's model and version to what is asked for."""

from __future__ import annotations

from inferd.abc import Target

_MAX_DIGITS = 18


def target_of(name: str, version: str | None) -> Target:
    """``version`` as written: a number, a label, or None; what is neither is nowhere to be found."""
    if version is None:
        return Target(name)
    is_number = version.isascii() and version.isdecimal() and len(version) <= _MAX_DIGITS
    return Target(name, int(version) if is_number else version[:128])
