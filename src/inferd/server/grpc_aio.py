"""The gRPC listener on grpcio's asyncio server: a task and several coroutines a call, by its public interface alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc

from inferd.abc import Endpoint
from inferd.core.errors import Cancelled
from inferd.protocols.grpc.exchange import OK, GrpcExchange
from inferd.protocols.grpc.service import Method, StreamEndpoint
from inferd.server.front import Front, new_request_id
from inferd.server.grpc_services import (
    GrpcServices,
    KnownMetadata,
    address_of,
    client_of,
    refuse_address,
    server_credentials,
    server_options,
    status_message,
    trailers_of,
)
from inferd.server.settings import Settings
from inferd.serving.servable import Servable

logger = logging.getLogger("inferd.server")

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class AioGrpcServer:
    """See ``GrpcListener``."""

    def __init__(self, services: GrpcServices, front: Front, settings: Settings) -> None:
        self.address = ""
        self.refusal = ""
        self._services = services
        self._front = front
        self._settings = settings
        self._streams: set[_Stream] = set()
        self._server: grpc.aio.Server | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._metadata = KnownMetadata()
        self._handlers = {method.path: self._handler(method) for method in services.methods}

    def bind(self, servable: Servable) -> None:
        """Prepare a version that has become ready."""
        self._services.bind(servable)

    async def start(self) -> None:
        """Listen. A port that was asked for and is taken raises ``ConfigError``; the default one is given up."""
        try:
            address = address_of(self._settings)
            self._server = await self._listen(address)
        except (OSError, RuntimeError) as error:
            self.refusal = refuse_address(self._settings, error)
            return
        self.address = address
        self._watching = asyncio.get_running_loop().create_task(self._watch(self._server))

    async def _listen(self, address: str) -> grpc.aio.Server:
        server = grpc.aio.server(options=server_options(self._settings))
        server.add_generic_rpc_handlers((_Lookup(self._handlers),))
        credentials = server_credentials(self._settings)
        if credentials is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, credentials)
        await server.start()
        return server

    async def _watch(self, server: grpc.aio.Server) -> None:
        """Listen again when grpcio's server ends by itself, as it does at one call whose path is not UTF-8."""
        while self._stopping is None:
            try:
                await server.wait_for_termination()
            except Exception as error:
                logger.error("the server of grpc.aio broke, its calls are lost, and another takes its place: %s", error)
                self._server = server = await self._listen(self.address)

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
            headers = self._metadata.headers(context.invocation_metadata(), context.time_remaining())
            exchange = GrpcExchange(path, headers, body, request_id=new_request_id(headers))
            try:
                exchange.principal = self._services.admit(method, headers)
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
            headers = self._metadata.headers(context.invocation_metadata(), context.time_remaining())
            exchange = GrpcExchange(path, headers, b"", request_id=new_request_id(headers))
            stream = _Stream(context, exchange)
            self._streams.add(stream)
            try:
                await self._services.serve(method, endpoint, stream, exchange)
            finally:
                self._streams.discard(stream)
            self._log(exchange, context)
            if exchange.status != OK:
                await _abort(context, exchange)

        return call

    def _log(self, exchange: GrpcExchange, context: Any) -> None:
        if self._front.access_log is not None:
            self._front.access_log(exchange, client_of(context.peer()), len(exchange.answer))


class _Stream:
    """A ``Stream`` over grpcio's call."""

    __slots__ = ("_call", "_context", "_numbered", "is_drained", "on_drain")

    def __init__(self, context: Any, call: GrpcExchange) -> None:
        self._context = context
        self._call = call
        self._numbered = 0
        self.on_drain: Callable[[], object] | None = None
        self.is_drained = False

    async def read(self) -> bytes | None:
        message = await self._context.read()
        return None if message is grpc.aio.EOF else message

    async def write(self, message: bytes) -> None:
        try:
            await self._context.write(message)
        except (grpc.aio.InternalError, grpc.aio.UsageError) as error:
            raise Cancelled("the caller left before the answer") from error

    def exchange(self, body: bytes) -> GrpcExchange:
        self._numbered += 1
        return self._call.part(self._numbered, body)

    def drain(self) -> None:
        self.is_drained = True
        if self.on_drain is not None:
            self.on_drain()


class _Lookup(grpc.GenericRpcHandler):  # type: ignore[misc]
    """grpcio asks an object of its own class for a method's handler."""

    def __init__(self, handlers: Mapping[str, grpc.RpcMethodHandler]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handlers.get(handler_call_details.method)


async def _abort(context: Any, exchange: GrpcExchange) -> None:
    """End the call with the exchange's status."""
    trailers = trailers_of(exchange.request_id, exchange.answer_headers)
    await context.abort(_CODES[exchange.status], status_message(exchange.answer), trailers)
