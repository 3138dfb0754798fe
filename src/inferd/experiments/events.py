"""What is logged of an experiment: who saw which variant, what came of it, and how answers differed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from inferd.core.difference import Difference


@dataclass(slots=True)
class Exposure:
    """One answered request of an assigned unit.

    ``prediction_id`` is a UUIDv7, ``unit`` a hash (``hash_unit``), never the unit itself; ``sticky`` says whether the
    request named its unit. ``at_ms`` counts from 1970. ``outcome`` is "ok", "fallback" or a neutral error code in lower
    case. ``propensity`` is the chance with which the variant was chosen, and ``context`` what a bandit chose it by, not
    a number where that was not known. ``label`` and ``score`` tell what was answered (``gist``). Never changed; not
    frozen, because that takes five times as long to make.
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
    context: tuple[float, ...] = ()


SHED, UNAVAILABLE = "shed", "unavailable"
"""Outcomes of shadows that were not run: for lack of room, or because no version was ready."""


@dataclass(frozen=True, slots=True)
class ShadowOutcome:
    """What came of running a request a second time, on another version.

    ``prediction_id`` is the exposure's, or one of its own where nobody is exposed. ``variant`` is compared with
    control, whichever of the two was the shadow. ``outcome`` is the shadow's: "ok", a neutral error code in lower case,
    or, for a number of ``requests`` that were not run, ``SHED`` or ``UNAVAILABLE``. Only with "ok" there are a
    ``difference`` and, for at most ``keep`` of a variant's that are not equal, ``details`` as JSON. Model times are
    ``None`` where an answer took none.
    """

    prediction_id: str
    experiment: str
    variant: str
    at_ms: int
    outcome: str
    requests: int = 1
    difference: Difference | None = None
    control_us: int | None = None
    variant_us: int | None = None
    details: str = ""
    keep: int = 0


Event = Exposure | ShadowOutcome
Put = Callable[[Event], None]
"""Takes an event and does not block."""


class UnstorableEvents(ValueError):
    """One of the events is such that no store takes it."""


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
