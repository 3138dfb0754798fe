"""Choose the gRPC listener, and say what each of them offers the server."""

from __future__ import annotations

import logging
from typing import Protocol

from inferd.core.errors import MissingExtra
from inferd.core.plugins import available, lookup
from inferd.protocols.shared.context import ProtocolContext
from inferd.server.front import Front
from inferd.server.grpc_aio import AioGrpcServer
from inferd.server.grpc_services import GrpcServices
from inferd.server.settings import Settings
from inferd.serving.servable import Servable

logger = logging.getLogger("inferd.server")

GROUP = "inferd.grpc_services"


class GrpcListener(Protocol):
    """One gRPC listener over the engine. Used on the loop's thread. ``address`` is set once it listens; ``refusal``
    says why it does not, when that is no error."""

    address: str
    refusal: str

    def bind(self, servable: Servable) -> None:
        """Prepare a version that has become ready."""
        ...

    async def start(self) -> None:
        """Listen. A port that was asked for and is taken raises ``ConfigError``; the default one is given up."""
        ...

    def begin_stop(self, grace_s: float) -> None:
        """Take no more calls; what was accepted may finish within ``grace_s`` seconds."""
        ...

    async def stopped(self) -> None:
        """Return when the last call has ended."""
        ...


def make_grpc_server(settings: Settings, context: ProtocolContext, front: Front) -> GrpcListener:
    """A server of every gRPC service whose protocol is switched on, with health and reflection; not yet listening.

    Raises ``MissingExtra`` and ``ConfigError``.
    """
    names = [name for name in available(GROUP) if not settings.protocols or name in settings.protocols]
    services = GrpcServices([lookup(GROUP, name)(context) for name in names], context, front)
    if settings.grpc_front == "aio":
        return AioGrpcServer(services, front, settings)
    try:
        from inferd.server.grpc_queue import QueueGrpcServer
    except ImportError as error:
        logger.warning("this grpcio has no completion queue to use (%s): gRPC is slower, by --grpc-front aio", error)
        return AioGrpcServer(services, front, settings)
    server = QueueGrpcServer(services, front, settings)
    if settings.grpc_front == "grpcio":
        return server
    try:
        from inferd.server.grpc_native import NativeGrpcServer
    except ModuleNotFoundError as error:
        raise MissingExtra("--grpc-front native", "grpc-fast") from error
    return NativeGrpcServer(services, server, front, settings)
