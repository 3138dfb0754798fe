"""Assign a unit to a variant: a pure function of the experiment and the unit, so every process and host agrees."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from typing import Literal

from inferd.experiments.definition import Experiment, Variant

BUCKETS = 10_000
_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where a unit went. ``variant`` is None when it takes no part, and ``reason`` says why."""

    variant: Variant | None
    reason: Literal["assigned", "targeting", "holdout", "namespace", "coverage"]


_UNTARGETED, _HELD_OUT = Assignment(None, "targeting"), Assignment(None, "holdout")
_ELSEWHERE, _UNCOVERED = Assignment(None, "namespace"), Assignment(None, "coverage")


def bucket(salt: str, unit: str) -> int:
    """0 to 9,999: the first eight bytes of SHA-256(salt, a NUL byte, unit; UTF-8), big-endian, modulo 10,000."""
    return _bucket(_key(salt), unit.encode("utf-8", "surrogateescape"))


def bounds(experiment: Experiment) -> list[int]:
    """For each variant, in order, the first bucket beyond its own."""
    return [round(share * BUCKETS) for share in accumulate(experiment.shares)]


class Assigner:
    """An experiment made ready to assign.

    A unit is hashed once for each question, with its own salt: ``namespace:NAME``, ``holdout:NAME``, ``SALT:coverage``
    and ``SALT:variant``. The last two differ so that more coverage adds units and never moves one.
    """

    __slots__ = ("_assigned", "_bounds", "_coverage", "_holdout", "_namespace", "_rules", "_variant")

    def __init__(self, experiment: Experiment) -> None:
        space, holdout = experiment.namespace, experiment.holdout
        self._assigned = [Assignment(variant, "assigned") for variant in experiment.variants]
        self._bounds = bounds(experiment)
        self._variant = _key(f"{experiment.salt}:variant")
        self._coverage = (_key(f"{experiment.salt}:coverage"), round(experiment.coverage * BUCKETS))
        self._holdout = holdout and (_key(f"holdout:{holdout.name}"), round(holdout.share * BUCKETS))
        self._namespace = space and (
            _key(f"namespace:{space.name}"),
            range(round(space.start * BUCKETS), round(space.end * BUCKETS)),
        )
        self._rules = [(rule.header.lower(), rule.attribute, frozenset(rule.one_of)) for rule in experiment.targeting]

    def assign(
        self, unit: str, headers: Mapping[str, str] = _NOTHING, attributes: Mapping[str, str] = _NOTHING
    ) -> Assignment:
        """The unit's variant. ``headers`` have lower-case names; an absent header or attribute fits no rule."""
        data = unit.encode("utf-8", "surrogateescape")
        for header, attribute, one_of in self._rules:
            if (headers.get(header) if header else attributes.get(attribute)) not in one_of:
                return _UNTARGETED
        if self._holdout and _bucket(self._holdout[0], data) < self._holdout[1]:
            return _HELD_OUT
        if self._namespace and _bucket(self._namespace[0], data) not in self._namespace[1]:
            return _ELSEWHERE
        # What every bucket would answer alike needs none: each costs 1 us.
        if self._coverage[1] < BUCKETS and _bucket(self._coverage[0], data) >= self._coverage[1]:
            return _UNCOVERED
        if self._bounds[0] == BUCKETS:
            return self._assigned[0]
        return self._assigned[bisect_right(self._bounds, _bucket(self._variant, data))]


def _key(salt: str) -> bytes:
    return salt.encode() + b"\0"


def _bucket(key: bytes, data: bytes) -> int:
    return int.from_bytes(sha256(key + data).digest()[:8], "big") % BUCKETS
