"""The gRPC listener: grpcio's server on the event loop, with the guard, request ids and draining of the HTTP fronts.

One call costs grpcio 120 µs and more; what is ours is kept small beside it (benchmarks/grpc_calls.py).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import grpc

from inferd.abc import Endpoint
from inferd.core.errors import ConfigError, MissingExtra, ModelNotReady
from inferd.core.plugins import available, lookup
from inferd.protocols.grpc.exchange import OK, TIMEOUT, GrpcExchange
from inferd.protocols.grpc.health import Health
from inferd.protocols.grpc.reflection import Reflection
from inferd.protocols.grpc.service import GrpcService, Method, StreamEndpoint, refuse
from inferd.protocols.shared.context import ProtocolContext
from inferd.server.front import Front, new_request_id
from inferd.server.settings import Settings
from inferd.serving.servable import Servable

logger = logging.getLogger("inferd.server")

GROUP = "inferd.grpc_services"
DEFAULT_PORT = 8001
MIN_PING_INTERVAL_MS = 10_000
MAX_STATUS_BYTES = 2000
"""Of a status message: callers take 8 KiB of metadata, in which every byte may need three."""
_CODES = {code.value[0]: code for code in grpc.StatusCode}
# No web page can send gRPC where it was not invited: to the guard it is as good as JSON.
_INVITED = {b"content-type": b"application/json"}


def make_grpc_server(settings: Settings, context: ProtocolContext, front: Front) -> GrpcListener:
    """A server of every gRPC service whose protocol is switched on, with health and reflection; not yet listening.

    Raises ``MissingExtra`` and ``ConfigError``.
    """
    names = [name for name in available(GROUP) if not settings.protocols or name in settings.protocols]
    server = GrpcServer([lookup(GROUP, name)(context) for name in names], context, front, settings)
    if settings.grpc_front == "grpcio":
        return server
    try:
        from inferd.server.grpc_native import NativeGrpcServer
    except ModuleNotFoundError as error:
        raise MissingExtra("--grpc-front native", "grpc-fast") from error
    return NativeGrpcServer(server, front, settings)


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


class GrpcServer:
    """The listener on grpcio. ``methods`` are those of all services, with health and reflection."""

    def __init__(
        self, services: Sequence[GrpcService], context: ProtocolContext, front: Front, settings: Settings
    ) -> None:
        self.address = ""
        self.refusal = ""
        self._services = services
        self._front = front
        self._settings = settings
        self._streams: set[_Stream] = set()
        self._server: grpc.aio.Server | None = None
        self._stopping: asyncio.Task[None] | None = None
        methods = [method for service in services for method in service.methods()]
        names = sorted({method.path.split("/")[1] for method in methods})
        health = Health(names, lambda: not context.blockers(None))
        methods += health.methods()
        methods += Reflection([*names, health.name]).methods()
        self.methods: Sequence[Method] = methods
        self._handlers = {method.path: self._handler(method) for method in methods}

    def bind(self, servable: Servable) -> None:
        """Prepare a version that has become ready."""
        for service in self._services:
            service.bind(servable)

    async def start(self) -> None:
        """Listen. A port that was asked for and is taken raises ``ConfigError``; the default one is given up."""
        settings = self._settings
        try:
            address = free_address(settings.host, DEFAULT_PORT if settings.grpc_port is None else settings.grpc_port)
            await self.listen(address)
        except (OSError, RuntimeError) as error:
            self.refusal = self.refuse_address(error)
            return
        self.address = address

    async def listen(self, address: str) -> None:
        """Listen on exactly this address, of TCP or ``unix:PATH``. Raises ``OSError`` or ``RuntimeError``."""
        settings = self._settings
        server = grpc.aio.server(options=_options(settings))
        server.add_generic_rpc_handlers((_Lookup(self._handlers),))
        if settings.tls_certificate:
            pair = Path(settings.tls_key).read_bytes(), Path(settings.tls_certificate).read_bytes()
            server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        else:
            server.add_insecure_port(address)
        await server.start()
        self._server = server

    def refuse_address(self, error: Exception) -> str:
        """Why the default port was given up. Raises ``ConfigError`` for one that was asked for."""
        settings = self._settings
        if settings.grpc_port is not None:
            raise ConfigError(
                f"cannot listen on {settings.host}:{settings.grpc_port} for gRPC: {reason(error)}; "
                "choose another with --grpc-port, or 0 for none"
            ) from error
        return f"port {DEFAULT_PORT}: {reason(error)}; choose another with --grpc-port"

    def begin_stop(self, grace_s: float) -> None:
        """Take no more calls; what was accepted may finish within ``grace_s`` seconds."""
        if self._server is not None and self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._server.stop(grace_s))
            for stream in tuple(self._streams):
                stream.drain()

    async def stopped(self) -> None:
        """Return when the last call has ended."""
        self.begin_stop(0)
        if self._stopping is not None:
            await self._stopping

    def _handler(self, method: Method) -> grpc.RpcMethodHandler:
        if method.stream is not None:
            return grpc.stream_stream_rpc_method_handler(self._streaming(method, method.stream))
        if method.endpoint is not None:
            return grpc.unary_unary_rpc_method_handler(self._unary(method, method.endpoint))
        raise ValueError(f"{method.path} has no endpoint")

    def _unary(self, method: Method, endpoint: Endpoint) -> Callable[[bytes, Any], Awaitable[bytes]]:
        path = method.path.encode()

        async def call(body: bytes, context: Any) -> bytes:
            headers = _headers(context)
            exchange = GrpcExchange(path, headers, body, request_id=new_request_id(headers))
            try:
                exchange.principal = self._admit(method, headers)
            except Exception as error:
                endpoint.refuse(exchange, error)
            else:
                endpoint.handle(exchange)
            await exchange.answered()
            self._log(exchange, context)
            if exchange.status != OK:
                await _abort(context, exchange)
            if exchange.answer_headers:
                context.set_trailing_metadata(trailers_of(exchange.request_id, exchange.answer_headers))
            return exchange.answer

        return call

    def _streaming(self, method: Method, endpoint: StreamEndpoint) -> Callable[[Any, Any], Awaitable[None]]:
        path = method.path.encode()

        async def call(messages: Any, context: Any) -> None:
            headers = _headers(context)
            exchange = GrpcExchange(path, headers, b"", request_id=new_request_id(headers))
            stream = _Stream(context, exchange)
            self._streams.add(stream)
            try:
                exchange.principal = self._admit(method, headers)
                await endpoint.serve(stream)
                if stream.drained:
                    raise ModelNotReady("the server is stopping", retry_after_s=1)
                exchange.respond(200, b"", b"")
            except Exception as error:
                refuse(exchange, error)
            finally:
                self._streams.discard(stream)
            self._log(exchange, context)
            if exchange.status != OK:
                await _abort(context, exchange)

        return call

    def _admit(self, method: Method, headers: Mapping[bytes, bytes]) -> str:
        verb, path = method.alike
        return self._front.guard.check(verb, path, headers if verb == b"GET" else {**headers, **_INVITED})

    def _log(self, exchange: GrpcExchange, context: Any) -> None:
        if self._front.access_log is not None:
            self._front.access_log(exchange, client_of(context.peer()), len(exchange.answer))


class _Stream:
    """A ``Stream`` over grpcio's call."""

    __slots__ = ("_call", "_context", "_numbered", "drained", "on_drain")

    def __init__(self, context: Any, call: GrpcExchange) -> None:
        self._context = context
        self._call = call
        self._numbered = 0
        self.on_drain: Callable[[], object] | None = None
        self.drained = False

    async def read(self) -> bytes | None:
        message = await self._context.read()
        return None if message is grpc.aio.EOF else message

    async def write(self, message: bytes) -> None:
        await self._context.write(message)

    def exchange(self, body: bytes) -> GrpcExchange:
        call = self._call
        self._numbered += 1
        request_id = f"{call.request_id}/{self._numbered}"
        exchange = GrpcExchange(call.path, call.headers, body, request_id=request_id)
        exchange.principal = call.principal
        return exchange

    def drain(self) -> None:
        self.drained = True
        if self.on_drain is not None:
            self.on_drain()


class _Lookup(grpc.GenericRpcHandler):  # type: ignore[misc]
    """grpcio asks an object of its own class for a method's handler."""

    def __init__(self, handlers: Mapping[str, grpc.RpcMethodHandler]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handlers.get(handler_call_details.method)


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        # Otherwise two servers share one port, and each gets half of the other's calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", int(settings.grpc_max_message_mb * (1 << 20))),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", settings.max_header_kb << 10),
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def free_address(host: str, port: int) -> str:
    """``host:port``, as an address. Raises ``OSError`` when another listens there: grpcio would only log why."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host.strip("[]"), port), family=family) as probe:
        address = probe.getsockname()[0]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def reason(error: Exception) -> str:
    """What the operating system says of an error, or the error itself."""
    return getattr(error, "strerror", None) or str(error)


def _headers(context: Any) -> dict[bytes, bytes]:
    """The caller's metadata, and what its deadline leaves in nanoseconds, at least one."""
    headers = {
        name.encode("latin-1"): value if isinstance(value, bytes) else value.encode("latin-1", "replace")
        for name, value in context.invocation_metadata()
    }
    remaining_s = context.time_remaining()
    if remaining_s is not None:
        headers[TIMEOUT] = b"%d" % max(1, int(remaining_s * 1e9))
    return headers


def trailers_of(request_id: str, headers: bytes) -> tuple[tuple[str, str], ...]:
    """What HTTP says in headers, for the trailing metadata."""
    metadata = [("x-request-id", request_id)]
    for line in headers.decode("latin-1").splitlines():
        name, _, value = line.partition(": ")
        if name != "content-type":
            metadata.append((name, value))
    return tuple(metadata)


async def _abort(context: Any, exchange: GrpcExchange) -> None:
    """End the call with the exchange's status."""
    trailers = trailers_of(exchange.request_id, exchange.answer_headers)
    await context.abort(_CODES[exchange.status], status_message(exchange.answer), trailers)


def status_message(answer: bytes) -> str:
    """An error's text, as long as a status may carry it."""
    return answer[:MAX_STATUS_BYTES].decode("utf-8", "ignore")


def client_of(peer: str) -> tuple[str, int] | None:
    """Address and port of ``ipv4:127.0.0.1:50000`` or ``ipv6:%5B::1%5D:50000``."""
    address, _, port = peer.partition(":")[2].rpartition(":")
    return (address.replace("%5B", "").replace("%5D", ""), int(port)) if port.isdigit() else None
