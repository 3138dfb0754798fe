"""Whether the server is stopping: set once by the signal, read by the readiness probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class ServerState:
    """Changed on the loop's thread only."""

    draining: bool = False

    def blockers(self) -> list[dict[str, Any]]:
        """What keeps the server itself from being ready."""
        return [{"state": "DRAINING", "reason": "the server is stopping"}] if self.draining else []
