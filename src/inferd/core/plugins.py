"""Look an extension up by group and name, through entry points; nothing is imported before it is asked for."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from inferd.core.errors import ConfigError

API_VERSION = 1


@cache
def available(group: str) -> dict[str, EntryPoint]:
    """Entry points of ``group`` by name, in order of their names."""
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: point.name)}


@cache
def lookup(group: str, name: str) -> Any:
    """The object registered as ``name`` in ``group``.

    Raises ``ConfigError`` when nobody registered it or when it was made for another contract version.
    """
    points = available(group)
    if name not in points:
        raise ConfigError(f"no {group.removeprefix('inferd.')} entry named {name!r}; available: {', '.join(points)}")
    extension = points[name].load()
    if getattr(extension, "api_version", API_VERSION) != API_VERSION:
        raise ConfigError(f"{name!r} was made for contract version {extension.api_version}, this is {API_VERSION}")
    return extension
