"""Name a prediction so that its outcome can be told later: UUID version 7 (RFC 9562, 5.7), which sorts by time."""

from __future__ import annotations

from random import getrandbits
from time import time_ns

_VERSION = 7 << 76
_VARIANT = 2 << 62


def new_prediction_id() -> str:
    """48 bits of milliseconds since 1970, then 74 random bits."""
    value = (time_ns() // 1_000_000) << 80 | _VERSION | getrandbits(12) << 64 | _VARIANT | getrandbits(62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
