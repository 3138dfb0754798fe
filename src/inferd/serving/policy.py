"""How an experiment or another policy takes part in routing: it chooses a version, and is told what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from inferd.abc import Exchange
from inferd.core.messages import InferenceRequest

if TYPE_CHECKING:
    from inferd.serving.servable import Ticket
    from inferd.serving.table import Table


class Observer(Protocol):
    """Follows one request. Called on the loop's thread; must be quick and must not raise."""

    def submitted(self, request: InferenceRequest) -> None:
        """The request was accepted, and may be answered already. Its ``inputs`` are read-only and stay as they are."""
        ...

    def answered(self, outcome: str, total_ns: int, outputs: Mapping[str, np.ndarray] | None) -> None:
        """The request is over: "ok", or the neutral error code in lower case, without outputs."""
        ...


class RoutingPolicy(Protocol):
    """Chooses the version for each request that names none."""

    def route(self, exchange: Exchange, table: Table) -> Ticket:
        """A ticket whose servable is not pinned yet. Raises what ``Table.explain`` gives when no version is ready."""
        ...
