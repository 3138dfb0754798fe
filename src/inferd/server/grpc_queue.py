"""Hot: the gRPC listener on grpcio's completion queue, which the loop empties itself: no task and no coroutine a call.

benchmarks/grpc_calls.py. A thread waits for the first event and wakes the loop once; while there are events the loop
takes them without the thread, so that calls which come together share a batch. The queue is what grpcio's own
synchronous server is made of (``grpc._server``); its module is private, and ``--grpc-front aio`` does without.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial
from time import time
from typing import Any

from grpc._cython.cygrpc import (
    BatchOperationEvent,
    CompletionQueue,
    CompletionType,
    ReceiveCloseOnServerOperation,
    ReceiveMessageOperation,
    SendInitialMetadataOperation,
    SendMessageOperation,
    SendStatusFromServerOperation,
    Server,
)

from inferd.abc import Endpoint
from inferd.core.errors import Cancelled, Code
from inferd.protocols.grpc.exchange import OK, GrpcExchange
from inferd.protocols.grpc.service import Method, StreamEndpoint
from inferd.protocols.shared.status import GRPC_STATUS
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

MAX_EVENTS = 256
"""Taken in one turn of the loop."""
WAITING_CALLS = 64
"""New calls that are taken without asking again."""
_AT_ONCE = 0.0
_FOREVER_S = 1e12
_NO_METADATA: tuple[tuple[str, str], ...] = ()
_SHUTDOWN = CompletionType.queue_shutdown
_NO_EVENT = (CompletionType.queue_timeout, _SHUTDOWN)


class QueueGrpcServer:
    """See ``GrpcListener``. Each event's tag is what it is to be handed to."""

    def __init__(self, services: GrpcServices, front: Front, settings: Settings) -> None:
        self.address = ""
        self.refusal = ""
        self.metadata = KnownMetadata()
        self.front = front
        self.streams: set[_Streamed] = set()
        self.loop = asyncio.get_running_loop()
        self.services = services
        self._settings = settings
        self._methods = {method.path.encode(): method for method in services.methods}
        self._queue = CompletionQueue()
        self._server: Any = None
        self._resume = threading.Lock()
        self._stopping: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    def bind(self, servable: Servable) -> None:
        """Prepare a version that has become ready."""
        self.services.bind(servable)

    async def start(self) -> None:
        """See ``GrpcListener``."""
        try:
            address = address_of(self._settings)
            self.listen(address)
        except (OSError, RuntimeError) as error:
            self.refusal = refuse_address(self._settings, error)
            return
        self.address = address

    def listen(self, address: str) -> None:
        """Listen on exactly this address, of TCP or ``unix:PATH``. Raises ``OSError`` or ``RuntimeError``."""
        server = Server(tuple(server_options(self._settings)), False)
        server.register_completion_queue(self._queue)
        credentials = server_credentials(self._settings)
        more = () if credentials is None else (credentials._credentials,)
        if not server.add_http2_port(address.encode(), *more):
            raise RuntimeError(f"{address} is taken")
        server.start()
        self._server = server
        for _ in range(WAITING_CALLS):
            self._ask()
        self._resume.acquire()
        threading.Thread(target=self._wait, name="inferd-grpc", daemon=True).start()

    def begin_stop(self, grace_s: float) -> None:
        """See ``GrpcListener``."""
        if self._server is not None and self._stopping is None:
            self._stopping = self.loop.create_task(self._stop(grace_s))
            for stream in tuple(self.streams):
                stream.drain()

    async def stopped(self) -> None:
        """See ``GrpcListener``."""
        self.begin_stop(0)
        if self._stopping is not None:
            await self._stopping

    async def _stop(self, grace_s: float) -> None:
        self._server.shutdown(self._queue, lambda event: self._ended.set())
        try:
            async with asyncio.timeout(grace_s):
                await self._ended.wait()
        except TimeoutError:
            self._server.cancel_all_calls()
            await self._ended.wait()
        self._queue.shutdown()
        self._server.destroy()

    def _ask(self) -> None:
        self._server.request_call(self._queue, self._queue, self._called)

    def _wait(self) -> None:
        """In the thread: wait for an event, hand it to the loop, and wait until that has no more to take."""
        while (event := self._queue.poll()).completion_type != _SHUTDOWN:
            if _is_routine(event):
                continue
            try:
                self.loop.call_soon_threadsafe(self._woken, event)
            except RuntimeError:  # the loop has closed
                return
            self._resume.acquire()

    def _woken(self, event: Any) -> None:
        _hand_over(event)
        self._take()

    def _take(self) -> None:
        """Take what has come. What follows is taken in the next turn: between the two, batches run and others have
        theirs."""
        taken = 0
        poll = self._queue.poll
        while taken < MAX_EVENTS and (event := poll(deadline=_AT_ONCE)).completion_type not in _NO_EVENT:
            _hand_over(event)
            taken += 1
        if taken:
            self.loop.call_soon(self._take)
        else:
            self._resume.release()

    def _called(self, event: Any) -> None:
        if not event.success:  # the server stops
            return
        if self._stopping is None:
            self._ask()
        method = self._methods.get(event.call_details.method)
        if method is None:
            operations = (
                ReceiveCloseOnServerOperation(0),
                SendInitialMetadataOperation(_NO_METADATA, 0),
                SendStatusFromServerOperation(_NO_METADATA, GRPC_STATUS[Code.UNIMPLEMENTED], "Method not found!", 0),
            )
            event.call.start_server_batch(operations, _ignore)
        elif method.endpoint is not None:
            _Unary(self, event, method, method.endpoint)
        elif method.stream is not None:
            _Streamed(self, event, method, method.stream)


class _Unary:
    """One call of a unary method, from its request to the sent answer."""

    __slots__ = ("_call", "_details", "_endpoint", "_exchange", "_is_left", "_metadata", "_method", "_server")

    def __init__(self, server: QueueGrpcServer, event: Any, method: Method, endpoint: Endpoint) -> None:
        self._server = server
        self._call = event.call
        self._details = event.call_details
        self._metadata = event.invocation_metadata
        self._method = method
        self._endpoint = endpoint
        self._exchange: GrpcExchange | None = None
        self._is_left = False
        event.call.start_server_batch((ReceiveCloseOnServerOperation(0),), self._closed)
        event.call.start_server_batch((ReceiveMessageOperation(0),), self._received)

    def _closed(self, event: Any) -> None:
        """The call is over on the wire: it was answered, or the caller has left, or its deadline has passed."""
        if event.batch_operations[0].cancelled():
            self._is_left = True
            if self._exchange is not None:
                self._exchange.leave()

    def _received(self, event: Any) -> None:
        if self._is_left:
            return
        server = self._server
        body = event.batch_operations[0].message()
        if body is None:  # none came, or one over the limit, which the queue has answered
            self._send_status(GRPC_STATUS[Code.UNIMPLEMENTED], "a call has exactly one message", _NO_METADATA)
            return
        headers = server.metadata.headers(self._metadata, _remaining_s(self._details))
        exchange = self._exchange = GrpcExchange(
            self._details.method, headers, body, request_id=new_request_id(headers), on_answer=self._answer
        )
        try:
            exchange.principal = server.services.admit(self._method, headers)
        except Exception as error:
            self._endpoint.refuse(exchange, error)
        else:
            self._endpoint.handle(exchange)

    def _answer(self, exchange: GrpcExchange) -> None:
        if self._is_left:
            return
        headers = exchange.answer_headers
        if exchange.status != OK:
            trailers = trailers_of(exchange.request_id, headers)
            self._send_status(exchange.status, status_message(exchange.answer), trailers)
        else:
            operations = (
                SendInitialMetadataOperation(_NO_METADATA, 0),
                SendMessageOperation(exchange.answer, 0),
                SendStatusFromServerOperation(
                    trailers_of(exchange.request_id, headers) if headers else _NO_METADATA, OK, b"", 0
                ),
            )
            self._call.start_server_batch(operations, _ignore)
        _log(self._server, exchange, self._call)

    def _send_status(self, status: int, details: str, trailers: tuple[tuple[str, str], ...]) -> None:
        operations = (
            SendInitialMetadataOperation(_NO_METADATA, 0),
            SendStatusFromServerOperation(trailers, status, details, 0),
        )
        self._call.start_server_batch(operations, _ignore)


class _Streamed:
    """One call with any number of messages each way; also the ``Stream`` that its endpoint sees."""

    def __init__(self, server: QueueGrpcServer, event: Any, method: Method, endpoint: StreamEndpoint) -> None:
        self.on_drain: Callable[[], object] | None = None
        self._server = server
        self._call = event.call
        self._is_begun = False
        self.is_drained = False
        self._is_left = False
        self._numbered = 0
        headers = server.metadata.headers(event.invocation_metadata, _remaining_s(event.call_details))
        self._exchange = GrpcExchange(
            event.call_details.method, headers, b"", request_id=new_request_id(headers), on_answer=self._answer
        )
        server.streams.add(self)
        self._task = server.loop.create_task(self._serve(method, endpoint))
        self._call.start_server_batch((ReceiveCloseOnServerOperation(0),), self._closed)

    async def read(self) -> bytes | None:
        """See ``Stream``."""
        event = await self._done((ReceiveMessageOperation(0),))
        message: bytes | None = event.batch_operations[0].message()
        return message

    async def write(self, message: bytes) -> None:
        """See ``Stream``."""
        event = await self._done((*self._beginning(), SendMessageOperation(message, 0)))
        if not event.success:
            raise Cancelled("the caller left before the answer")

    def exchange(self, body: bytes) -> GrpcExchange:
        """See ``Stream``."""
        self._numbered += 1
        return self._exchange.part(self._numbered, body)

    def drain(self) -> None:
        """The server begins to stop."""
        self.is_drained = True
        if self.on_drain is not None:
            self.on_drain()

    async def _serve(self, method: Method, endpoint: StreamEndpoint) -> None:
        try:
            await self._server.services.serve(method, endpoint, self, self._exchange)
        finally:
            self._server.streams.discard(self)

    def _answer(self, exchange: GrpcExchange) -> None:
        if self._is_left:
            return
        is_good = exchange.status == OK
        trailers = _NO_METADATA if is_good else trailers_of(exchange.request_id, exchange.answer_headers)
        status = SendStatusFromServerOperation(trailers, exchange.status, status_message(exchange.answer), 0)
        self._call.start_server_batch((*self._beginning(), status), _ignore)
        _log(self._server, exchange, self._call)

    def _beginning(self) -> tuple[Any, ...]:
        """What goes before the first message, or the status."""
        if self._is_begun:
            return ()
        self._is_begun = True
        return (SendInitialMetadataOperation(_NO_METADATA, 0),)

    def _closed(self, event: Any) -> None:
        if event.batch_operations[0].cancelled():
            self._is_left = True
            self._task.cancel()

    async def _done(self, operations: tuple[Any, ...]) -> Any:
        """The event of ``operations`` once they are done."""
        done = self._server.loop.create_future()
        self._call.start_server_batch(operations, partial(_resolve, done))
        return await done


def _resolve(done: asyncio.Future[Any], event: Any) -> None:
    if not done.done():
        done.set_result(event)


def _hand_over(event: Any) -> None:
    """The last line of defence: a defect here must not stop the other calls."""
    try:
        event.tag(event)
    except Exception:
        logger.exception("a defect while answering over gRPC")


def _ignore(event: Any) -> None:
    """What nobody waits for: that an answer was sent."""


def _is_routine(event: Any) -> bool:
    """Whether an event is no reason to wake the loop: an answer was sent, a call that was answered is over."""
    if event.tag is _ignore:
        return True
    if type(event) is not BatchOperationEvent:
        return False
    operation = event.batch_operations[0]
    return type(operation) is ReceiveCloseOnServerOperation and not operation.cancelled()


def _log(server: QueueGrpcServer, exchange: GrpcExchange, call: Any) -> None:
    if server.front.access_log is not None:
        server.front.access_log(exchange, client_of(call.peer().decode("ascii", "replace")), len(exchange.answer))


def _remaining_s(details: Any) -> float | None:
    """What the caller's deadline leaves; None without one."""
    return details.deadline - time() if details.deadline < _FOREVER_S else None
