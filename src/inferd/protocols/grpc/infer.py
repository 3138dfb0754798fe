"""A unary method that infers: the shared hot endpoint, asked for the model that the message names."""

from __future__ import annotations

from collections.abc import Callable

from inferd.abc import Exchange, Target
from inferd.core.errors import InferdError
from inferd.protocols.grpc.service import refuse
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.endpoint import Dialect, HotEndpoint

_MAX_KEPT = 1024


class InferEndpoint:
    """Finds the target in the message and leaves the rest to the ``HotEndpoint`` of that target, which see for
    ``binding``."""

    def __init__(
        self, context: ProtocolContext, dialect: Dialect, target_in: Callable[[bytes], Target], binding: str = ""
    ) -> None:
        self._context = context
        self._dialect = dialect
        self._target_in = target_in
        self._binding = binding
        self._endpoints: dict[Target, HotEndpoint] = {}

    def handle(self, exchange: Exchange) -> None:
        """Answer ``exchange``, now or later; never raises."""
        try:
            target = self._target_in(exchange.body)
        except Exception as error:
            outcome = error.code.value.lower() if isinstance(error, InferdError) else "internal"
            self._context.metrics.count_unrouted(self._dialect.protocol, outcome)
            self.refuse(exchange, error)
            return
        (self._endpoints.get(target) or self._make(target)).handle(exchange)

    def _make(self, target: Target) -> HotEndpoint:
        """Kept for the next request; names come from callers, so not for ever."""
        if len(self._endpoints) >= _MAX_KEPT:
            self._endpoints.clear()
        endpoint = HotEndpoint(self._context, target, self._dialect, self._binding)
        self._endpoints[target] = endpoint
        return endpoint

    def refuse(self, exchange: Exchange, error: Exception) -> None:
        """Answer with ``error``; the server's own checks call this."""
        refuse(exchange, error)
