"""Reach SciPy, which only the statistics need, when they are asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from inferd.core.errors import MissingExtra


def scipy(module: str) -> Any:
    """``scipy.special`` or ``scipy.stats``. Raises ``MissingExtra`` where SciPy is not installed."""
    try:
        return import_module(f"scipy.{module}")
    except ImportError:
        raise MissingExtra("the analysis of an experiment", "experiments") from None
