"""Decide the next step from what is served to what is wanted, for one model. Pure: no clock, no thread, no model.

A step is taken, the states change, and the question is asked again; when the answer is None there is nothing to do
until something else changes. The semantics are those of TensorFlow Serving's aspired-version policies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from inferd.core.config import Transition
from inferd.core.lifecycle import VersionState

_COMING = frozenset({VersionState.PENDING, VersionState.LOADING, VersionState.WARMING})
_ALIVE = _COMING | {VersionState.READY}
_LEAVING = frozenset({VersionState.DRAINING, VersionState.UNLOADING})


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to serve a version. ``current`` is False once it is to be replaced (a reload); ``retry_due`` says
    that a failed one may be tried again now."""

    version: int
    state: VersionState
    current: bool = True
    retry_due: bool = False


class Load(NamedTuple):
    """Start an attempt for this version."""

    version: int


class Unload(NamedTuple):
    """Drain and unload the attempt at this position, or give it up while it is loaded."""

    position: int


def next_action(desired: frozenset[int], attempts: Sequence[Attempt], transition: Transition) -> Load | Unload | None:
    """The next step.

    What is on its way and no longer wanted is given up.
    ``availability-preserving``: what is to go leaves only when what replaces it is ready, and stays when that fails.
    ``resource-preserving``: it leaves first, so that two versions never need memory at the same time.
    """
    for position, attempt in enumerate(attempts):
        if attempt.state in _COMING and not (attempt.current and attempt.version in desired):
            return Unload(position)
    missing = [version for version in sorted(desired, reverse=True) if not _is_tried(version, attempts)]
    surplus = [
        position
        for position, attempt in enumerate(attempts)
        if attempt.state is VersionState.READY and not (attempt.current and attempt.version in desired)
    ]
    if transition == "resource-preserving":
        if surplus:
            return Unload(surplus[0])
        leaving = any(attempt.state in _LEAVING for attempt in attempts)
        return Load(missing[0]) if missing and not leaving else None
    if missing:
        return Load(missing[0])
    ready = {each.version for each in attempts if each.current and each.state is VersionState.READY} & desired
    for position in surplus:
        version = attempts[position].version
        if not desired or (version in ready if version in desired else ready):
            return Unload(position)
    return None


def _is_tried(version: int, attempts: Sequence[Attempt]) -> bool:
    """Whether a current attempt serves the version, is on its way to, or has failed and is not to be repeated now."""
    return any(
        attempt.current
        and attempt.version == version
        and (attempt.state in _ALIVE or (attempt.state is VersionState.FAILED and not attempt.retry_due))
        for attempt in attempts
    )
