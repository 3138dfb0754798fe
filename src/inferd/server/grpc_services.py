"""What every gRPC listener shares: the methods of all services, who may call them, addresses, metadata, statuses."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import grpc

from inferd.core.errors import ConfigError, ModelNotReady
from inferd.protocols.grpc.exchange import TIMEOUT, GrpcExchange
from inferd.protocols.grpc.health import Health
from inferd.protocols.grpc.reflection import Reflection
from inferd.protocols.grpc.service import GrpcService, Method, Stream, StreamEndpoint, refuse
from inferd.protocols.shared.context import ProtocolContext
from inferd.server.front import Front
from inferd.server.settings import Settings
from inferd.serving.servable import Servable

DEFAULT_PORT = 8001
MIN_PING_INTERVAL_MS = 10_000
MAX_STATUS_BYTES = 2000
"""Of a status message: callers take 8 KiB of metadata, in which every byte may need three."""
MAX_PENDING_CALLS = 1 << 20
"""That wait to be taken. grpcio's own 1,000 ends further ones with CANCELLED, at random; taken, they get an answer."""
_KNOWN = 1024

Headers = Mapping[bytes, bytes]
Metadata = Sequence[tuple[str, str | bytes]]


class DrainedStream(Stream, Protocol):
    """A ``Stream`` that knows whether the server stops."""

    is_drained: bool


class GrpcServices:
    """``methods`` are those of all services, with health and reflection."""

    def __init__(self, services: Sequence[GrpcService], context: ProtocolContext, front: Front) -> None:
        self._services = services
        self._guard = front.guard
        methods = [method for service in services for method in service.methods()]
        names = sorted({method.path.split("/")[1] for method in methods})
        health = Health(names, lambda: not context.blockers(None))
        methods += health.methods()
        methods += Reflection([*names, health.name]).methods()
        self.methods: Sequence[Method] = methods

    def bind(self, servable: Servable) -> None:
        """Prepare a version that has become ready."""
        for service in self._services:
            service.bind(servable)

    def admit(self, method: Method, headers: Headers) -> str:
        """The id of the caller's key. Raises what the guard raises."""
        verb, path = method.alike
        return self._guard.check(verb, path, headers)

    async def serve(self, method: Method, endpoint: StreamEndpoint, stream: DrainedStream, call: GrpcExchange) -> None:
        """Let ``endpoint`` serve one streamed call; how it ended is the answer of ``call``."""
        try:
            call.principal = self.admit(method, call.headers)
            await endpoint.serve(stream)
            if stream.is_drained:
                raise ModelNotReady("the server is stopping", retry_after_s=1)
            call.respond(200, b"", b"")
        except Exception as error:
            refuse(call, error)


class KnownMetadata:
    """Callers' metadata as headers; callers send the same again and again."""

    def __init__(self) -> None:
        self._known: dict[Any, Headers] = {}

    def headers(self, metadata: Metadata, remaining_s: float | None) -> Headers:
        """The headers, and what the deadline leaves in nanoseconds, at least one."""
        headers = self._known.get(metadata) or self._remember(metadata)
        return headers if remaining_s is None else {**headers, TIMEOUT: b"%d" % max(1, int(remaining_s * 1e9))}

    def _remember(self, metadata: Metadata) -> Headers:
        headers = {
            name.encode("latin-1"): value if isinstance(value, bytes) else value.encode("latin-1", "replace")
            for name, value in metadata
        }
        # No web page can send gRPC where it was not invited: to the guard it is as good as JSON.
        headers[b"content-type"] = b"application/json"
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[metadata] = headers
        return headers


def server_options(settings: Settings) -> list[tuple[str, int]]:
    """Arguments of grpcio's servers."""
    return [
        # Otherwise two servers share one port, and each gets half of the other's calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", int(settings.grpc_max_message_mb * (1 << 20))),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", settings.max_header_kb << 10),
        ("grpc.server.max_pending_requests", MAX_PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_CALLS),
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Those of the server's certificate; None without TLS."""
    if not settings.tls_certificate:
        return None
    pair = Path(settings.tls_key).read_bytes(), Path(settings.tls_certificate).read_bytes()
    return grpc.ssl_server_credentials([pair])


def address_of(settings: Settings) -> str:
    """``host:port``, as an address. Raises ``OSError`` when another listens there: grpcio would only log why."""
    host, port = settings.host, DEFAULT_PORT if settings.grpc_port is None else settings.grpc_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host.strip("[]"), port), family=family) as probe:
        address = probe.getsockname()[0]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def refuse_address(settings: Settings, error: Exception) -> str:
    """Why the default port was given up. Raises ``ConfigError`` for one that was asked for."""
    reason = getattr(error, "strerror", None) or str(error)
    if settings.grpc_port is not None:
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.grpc_port} for gRPC: {reason}; "
            "choose another with --grpc-port, or 0 for none"
        ) from error
    return f"port {DEFAULT_PORT}: {reason}; choose another with --grpc-port"


def trailers_of(request_id: str, headers: bytes) -> tuple[tuple[str, str], ...]:
    """What HTTP says in headers, for the trailing metadata."""
    metadata = [("x-request-id", request_id)]
    for line in headers.decode("latin-1").splitlines():
        name, _, value = line.partition(": ")
        if name != "content-type":
            metadata.append((name, value))
    return tuple(metadata)


def status_message(answer: bytes) -> str:
    """An error's text, as long as a status may carry it."""
    return answer[:MAX_STATUS_BYTES].decode("utf-8", "ignore")


def client_of(peer: str) -> tuple[str, int] | None:
    """Address and port of ``ipv4:127.0.0.1:50000`` or ``ipv6:%5B::1%5D:50000``."""
    address, _, port = peer.partition(":")[2].rpartition(":")
    return (address.replace("%5B", "").replace("%5D", ""), int(port)) if port.isdigit() else None
