"""What is logged of an experiment: who saw which variant, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256


@dataclass(frozen=True, slots=True)
class Exposure:
    """One answered request of an assigned unit.

    ``prediction_id`` is a UUIDv7, ``unit`` a hash (``hash_unit``), never the unit itself; ``sticky`` says whether the
    request named its unit. ``at_ms`` counts from 1970. ``outcome`` is "ok", "fallback" or a neutral error code in lower
    case. ``propensity`` is the chance with which the unit got the variant. ``label`` and ``score`` tell what was
    answered (``gist``).
    """

    prediction_id: str
    experiment: str
    variant: str
    unit: str
    sticky: bool
    at_ms: int
    latency_us: int
    outcome: str
    propensity: float = 1.0
    label: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """One outcome, of a prediction or (``experiment`` with hashed ``unit``) of a unit. A repeated ``key`` is the same
    feedback sent again."""

    metric: str
    value: float
    at_ms: int
    key: str
    prediction_id: str = ""
    experiment: str = ""
    unit: str = ""


def hash_unit(salt: str, unit: str) -> str:
    """The first 128 bits of SHA-256(salt ":unit", a NUL byte, unit; UTF-8), as hexadecimal digits."""
    return sha256(f"{salt}:unit\0{unit}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
