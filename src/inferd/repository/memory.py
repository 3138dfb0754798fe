"""Giving back the memory that the process no longer needs."""

from __future__ import annotations

import ctypes
from functools import cache


def give_back() -> None:
    """Return freed memory to the system, where the C library keeps it otherwise (glibc, ``malloc_trim(3)``)."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> ctypes._NamedFuncPointer | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        return None
