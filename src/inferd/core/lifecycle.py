"""The states of one loaded version and the moves between them: forward only, a retry is a new object."""

from __future__ import annotations

from enum import Enum


class VersionState(Enum):
    """Where a version stands.

    READY is announced after the table shows the version; DRAINING before the table hides it.
    """

    PENDING = "PENDING"
    LOADING = "LOADING"
    WARMING = "WARMING"
    READY = "READY"
    DRAINING = "DRAINING"
    UNLOADING = "UNLOADING"
    UNLOADED = "UNLOADED"
    FAILED = "FAILED"


_S = VersionState
_MOVES: dict[VersionState, frozenset[VersionState]] = {
    _S.PENDING: frozenset({_S.LOADING, _S.FAILED, _S.UNLOADED}),
    _S.LOADING: frozenset({_S.WARMING, _S.FAILED, _S.UNLOADED}),
    _S.WARMING: frozenset({_S.READY, _S.FAILED, _S.UNLOADED}),
    _S.READY: frozenset({_S.DRAINING, _S.FAILED}),
    _S.DRAINING: frozenset({_S.UNLOADING, _S.FAILED}),
    _S.UNLOADING: frozenset({_S.UNLOADED, _S.FAILED}),
    _S.UNLOADED: frozenset(),
    _S.FAILED: frozenset(),
}


def move(current: VersionState, to: VersionState) -> VersionState:
    """Return ``to``, or raise ``ValueError`` when the move is not a legal one."""
    if to not in _MOVES[current]:
        raise ValueError(f"a version cannot go from {current.value} to {to.value}")
    return to
