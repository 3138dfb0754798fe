"""A unary method that infers: the shared hot endpoint, asked for the model that the message names."""

from __future__ import annotations

from collections.abc import Callable

from inferd.abc import Exchange, Target
from inferd.core.errors import InferdError
from inferd.protocols.grpc.service import refuse
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.endpoint import Dialect, HotEndpoint


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

    def handle(self, exchange: Exchange) -> None:
        """Answer ``exchange``, now or later; never raises."""
        try:
            target = self._target_in(exchange.body)
        except Exception as error:
            outcome = error.code.value.lower() if isinstance(error, InferdError) else "internal"
            self._context.metrics.count_unrouted(self._dialect.protocol, outcome)
            self.refuse(exchange, error)
            return
        HotEndpoint(self._context, target, self._dialect, self._binding).handle(exchange)

    def refuse(self, exchange: Exchange, error: Exception) -> None:
        """Answer with ``error``; the server's own checks call this."""
        refuse(exchange, error)
