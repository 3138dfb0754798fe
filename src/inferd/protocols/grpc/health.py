"""``grpc.health.v1``: whether the server, or one of its services, serves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Any

from inferd.core.errors import RouteNotFound
from inferd.protocols.grpc.schema import message_class, read_message
from inferd.protocols.grpc.service import MessageEndpoint, Method, Stream

SERVICE = "grpc.health.v1.Health"
_REQUEST = "grpc.health.v1.HealthCheckRequest"
_ALIKE = (b"GET", b"/v2/health/ready")
WATCH_INTERVAL_S = 1.0
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


class Health:
    """Answers for the server as a whole ("") and for each of ``services``, which are ready when the server is."""

    name = SERVICE

    def __init__(self, services: Collection[str], is_ready: Callable[[], bool]) -> None:
        self._services = {"", SERVICE, *services}
        self._is_ready = is_ready

    def methods(self) -> tuple[Method, ...]:
        """``Check`` and ``Watch``."""
        return (
            Method(f"/{SERVICE}/Check", _ALIKE, endpoint=MessageEndpoint(_REQUEST, self._check)),
            Method(f"/{SERVICE}/Watch", _ALIKE, stream=self),
        )

    def _status(self, service: str) -> int:
        if service not in self._services:
            return SERVICE_UNKNOWN
        return SERVING if self._is_ready() else NOT_SERVING

    def _check(self, request: Any) -> Any:
        status = self._status(request.service)
        if status == SERVICE_UNKNOWN:
            raise RouteNotFound(f"there is no service {request.service[:100]!r}")
        return _response(status)

    async def serve(self, stream: Stream) -> None:
        """``Watch``: the status now, and each time it has changed."""
        request = read_message(_REQUEST, await stream.read() or b"")
        stopping = asyncio.Event()
        stream.on_drain = stopping.set
        told = 0
        while True:
            status = self._status(request.service)
            if status != told:
                await stream.write(_response(status).SerializeToString())
                told = status
            if stopping.is_set():
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), WATCH_INTERVAL_S)


def _response(status: int) -> Any:
    return message_class("grpc.health.v1.HealthCheckResponse")(status=status)
