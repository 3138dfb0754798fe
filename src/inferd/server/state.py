"""Whether the server is stopping: set once by the signal, read by the readiness probe."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class ServerState:
    """Changed on the loop's thread only."""

    draining: bool = False
