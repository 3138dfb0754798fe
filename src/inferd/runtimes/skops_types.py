"""Which types a skops file holds that nobody has trusted yet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from inferd.core.config import ModelConfig
from inferd.core.errors import LoadFailed, MissingExtra
from inferd.runtimes.configured import MODEL_TOML, reason


def trusted_types(file: Path, config: ModelConfig, known: Sequence[str] = ()) -> list[str]:
    """The types of option ``trusted``. Raises ``LoadFailed`` where the file holds others that are neither ``known`` nor
    skops's own, and for what is no skops file."""
    try:
        import skops.io
    except ImportError as error:
        raise MissingExtra(file.name, "sklearn") from error
    trusted = config.options.get("trusted", [])
    if not isinstance(trusted, (list, tuple)):
        raise LoadFailed("options.trusted must be a list of type names")
    try:
        missing = sorted(set(skops.io.get_untrusted_types(file=file)) - {*trusted, *known})
    except Exception as error:  # a broken archive raises anything from BadZipFile to KeyError
        raise broken(file, error) from error
    if missing:
        raise LoadFailed(
            f"{file.name} needs types that skops does not trust: {', '.join(missing)}; if you trust them, "
            f"set options.trusted = {json.dumps(missing)} in {MODEL_TOML}",
            untrusted=missing,
        )
    return list(trusted)


def broken(file: Path, error: Exception) -> LoadFailed:
    """What to raise for a file that skops cannot load."""
    return LoadFailed(f"{file.name} is not a skops file that can be loaded: {reason(error, file)}")
