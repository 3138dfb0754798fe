"""The hot endpoint of every unary protocol: route, decode, submit; later encode, respond, release.

Hot: benchmarks/run.py. The steps are numbered in docs/hot-path.md. A protocol brings its codec, bound to each version,
and its ``Dialect``; the steps are the same for all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from time import monotonic_ns
from typing import Protocol

import numpy as np

from inferd.abc import Exchange, Target
from inferd.core.errors import Cancelled, InferdError, InvalidRequest, ModelNotLoaded, NotFinite
from inferd.core.messages import InferenceRequest
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.details import DETAILS, with_details
from inferd.protocols.shared.target import target_of
from inferd.serving.servable import Servable, Ticket

logger = logging.getLogger("inferd.protocols")

MAX_TIMEOUT_MS = 86_400_000
MOST_WAITS = 3
VERSION = b"inferd-model-version"
"""Request header: the version or label to answer with."""
DIGEST = b"inferd-model-digest"
"""Request header: answer with the artefact's digest in the header of the same name."""
TIMEOUT_HEADER = b"inferd-timeout-ms"


class Reply(Protocol):
    """How to encode one request's answer."""

    content_type: bytes

    def encode(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        """The body, and a block of extra header lines. Raises ``ExecutionFailed`` for outputs that the answer's form
        cannot express."""
        ...


class Codec(Protocol):
    """Reads one protocol's bodies for one version. Pure; any thread may call it."""

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[InferenceRequest, Reply]:
        """The request in ``body``, without time stamps or id, and the encoder of its answer. A ``deadline_ns`` that
        the body asks for counts from the request's arrival.

        ``headers`` has lower-case names. Raises ``InferdError`` for what is the caller's mistake.
        """
        ...


class Binding:
    """What is prepared once for a ready version: its codec, and the first header lines of each answer."""

    __slots__ = ("codec", "head")

    def __init__(self, servable: Servable, codec: Codec) -> None:
        self.codec = codec
        self.head = b"inferd-model: %b\r\ninferd-model-version: %d\r\ncontent-type: " % (
            servable.name.encode("ascii"),
            servable.version,
        )


@dataclass(frozen=True, slots=True)
class Dialect:
    """A protocol's name, and how it words an error: ``phrase(error, request_id)`` gives status and body. Without
    ``has_headers`` an answer has some only where an experiment or the request asks for them."""

    protocol: str
    error_type: bytes
    phrase: Callable[[Exception, str], tuple[int, bytes]]
    has_headers: bool = True


class HotEndpoint:
    """One hot route for one target. ``binding`` is the key of what ``Servable.bound`` keeps for it, the protocol's name
    unless one protocol has several."""

    def __init__(self, context: ProtocolContext, target: Target, dialect: Dialect, binding: str = "") -> None:
        self._context = context
        self._engine = context.engine
        self._target = target
        self._dialect = dialect
        self._protocol = dialect.protocol
        self._has_headers = dialect.has_headers
        self._binding = binding or dialect.protocol

    def handle(self, exchange: Exchange, waits: int = MOST_WAITS) -> None:
        """Answer ``exchange``, now or later; never raises. It waits at most ``waits`` times for a version to be loaded:
        another one may have taken its place, or it sleeps again."""
        ticket = None
        try:
            target = self._target if VERSION not in exchange.headers else self._target_by_header(exchange.headers)
            ticket = self._engine.route(target, exchange)
            codec: Codec = ticket.servable.bound[self._binding].codec
            if len(exchange.body) > self._context.decode_offload_bytes or b"content-encoding" in exchange.headers:
                self._decode_elsewhere(exchange, ticket, codec)
                return
            request, reply = codec.decode(exchange.body, exchange.headers)
            self._submit(exchange, ticket, request, reply)
        except ModelNotLoaded as error:
            if not (waits and self._wait(exchange, error, waits - 1)):
                self._give_up(exchange, None, error)
        # The last line of defence: a defect here must not break the connection's other requests.
        except Exception as error:
            self._give_up(exchange, ticket, error)

    def _wait(self, exchange: Exchange, error: ModelNotLoaded, waits: int) -> bool:
        """Handle ``exchange`` again once the version is loaded. False when callers do not wait."""
        loader = self._engine.loader
        if loader is None:
            return False
        again = partial(self.handle, exchange, waits)
        cancel = loader.when_loaded(error.model, error.version, again, exchange.received_ns)
        exchange.on_disconnect = cancel
        return cancel is not None

    def _target_by_header(self, headers: Mapping[bytes, bytes]) -> Target:
        """The target with the version or label that the caller's header names. Raises ``InvalidRequest`` when the path
        says otherwise."""
        text = headers[VERSION].decode("latin-1")
        name, version = self._target
        named = target_of(name or self._engine.table.default_model, text)
        if version not in (None, named.version):
            raise InvalidRequest(
                f"the path asks for version {version}, the Inferd-Model-Version header for {text[:40]!r}",
                got=text[:40],
                expected=str(version),
            )
        return named if named.name else self._target

    def _submit(self, exchange: Exchange, ticket: Ticket, request: InferenceRequest, reply: Reply) -> None:
        headers = exchange.headers
        request.received_ns = exchange.received_ns
        request.request_id = exchange.request_id
        if request.deadline_ns or TIMEOUT_HEADER in headers:
            set_deadline(request, exchange)
        request.on_done = partial(self._reply, exchange, ticket, reply)
        exchange.on_disconnect = request.cancel
        if ticket.servable.capture is not None:
            ticket.servable.capture.follow(request, exchange, ticket.servable)
        self._engine.submit(ticket, request)

    def _reply(self, exchange: Exchange, ticket: Ticket, reply: Reply, request: InferenceRequest) -> None:
        """Encode and respond, observe, release; the request's callback."""
        servable = ticket.servable
        outcome = "ok"
        done_ns = monotonic_ns()
        try:
            outputs = request.outputs
            if outputs is None:
                raise request.error or Cancelled("the request was given up")
            body, extra = reply.encode(outputs)
            encoded_ns = monotonic_ns()
            lines = b""
            if DETAILS in exchange.headers:
                body = with_details(body, reply.content_type, ticket, exchange.request_id)
            if self._has_headers or ticket.head or DIGEST in exchange.headers:
                lines = self._headers(ticket, reply, extra, exchange, request, encoded_ns)
            exchange.respond(200, lines, body)
        except Cancelled:
            outcome = "cancelled"
            encoded_ns = done_ns
        except NotFinite as error:
            outcome = self._refuse(exchange, _blame(error, request.inputs), ticket)
            encoded_ns = done_ns
        # An answer that cannot be encoded is the model's failure, and this caller's alone.
        except Exception as error:
            outcome = self._refuse(exchange, error, ticket)
            encoded_ns = done_ns
        finally:
            ticket.release()
        servable.metrics.observe_request(
            self._protocol,
            outcome,
            encoded_ns - request.received_ns,
            request.started_ns - request.queued_ns,
            request.executing_ns - request.started_ns,
            encoded_ns - done_ns,
        )
        if ticket.observer is not None:
            ticket.observer.answered(outcome, encoded_ns - request.received_ns, request.outputs)
        if self._context.tracer is not None:
            self._context.tracer.record(
                exchange.headers,
                request,
                protocol=self._protocol,
                model=servable.name,
                version=servable.version,
                outcome=outcome,
                encoded_ns=encoded_ns,
            )

    def _headers(
        self,
        ticket: Ticket,
        reply: Reply,
        extra: bytes,
        exchange: Exchange,
        request: InferenceRequest,
        encoded_ns: int,
    ) -> bytes:
        """The header lines of an answer. ``Server-Timing`` (W3C) is in milliseconds."""
        head: bytes = ticket.servable.bound[self._binding].head + reply.content_type
        if ticket.head:
            extra += ticket.head
        if DIGEST in exchange.headers:
            extra += b"inferd-model-digest: %b\r\n" % ticket.servable.info["digest"].encode()
        if self._context.tracer is not None:
            traceparent = self._context.tracer.traceparent(exchange.headers, ticket.servable.name)
            if traceparent is not None:
                extra += b"traceparent: " + traceparent + b"\r\n"
        if not self._context.server_timing:
            return head + b"\r\n" + extra
        return b"%b\r\n%bserver-timing: queue;dur=%.3f, batch;dur=%.3f, compute;dur=%.3f, encode;dur=%.3f\r\n" % (
            head,
            extra,
            (request.started_ns - request.queued_ns) / 1e6,
            (request.executing_ns - request.started_ns) / 1e6,
            (request.computed_ns - request.executing_ns) / 1e6,
            (encoded_ns - request.computed_ns) / 1e6 if request.computed_ns else 0.0,
        )

    def refuse(self, exchange: Exchange, error: Exception) -> None:
        """Answer with ``error`` as a problem document; the front's own checks call this."""
        self._refuse(exchange, error, None)

    def _refuse(self, exchange: Exchange, error: Exception, ticket: Ticket | None) -> str:
        """Answer with ``error``; returns the outcome's label."""
        if not isinstance(error, InferdError):
            logger.error("a defect while answering", exc_info=error, extra={"request_id": exchange.request_id})
        status, body = self._dialect.phrase(error, exchange.request_id)
        lines = [b"content-type: %b\r\n" % self._dialect.error_type]
        if ticket is not None:
            lines.append(b"inferd-model: %b\r\n" % ticket.servable.name.encode("ascii"))
            lines.append(b"inferd-model-version: %d\r\n%b" % (ticket.servable.version, ticket.head))
        details = error.details if isinstance(error, InferdError) else {}
        if "retry_after_s" in details:
            lines.append(b"retry-after: %b\r\n" % str(details["retry_after_s"]).encode())
        if status == 401:
            lines.append(b"www-authenticate: Bearer\r\n")
        exchange.respond(status, b"".join(lines), body)
        return error.code.value.lower() if isinstance(error, InferdError) else "internal"

    def _give_up(self, exchange: Exchange, ticket: Ticket | None, error: Exception) -> None:
        """The request never reached the scheduler."""
        if ticket is None:
            self._context.metrics.count_unrouted(self._protocol, self._refuse(exchange, error, None))
            return
        servable = ticket.servable
        try:
            outcome = self._refuse(exchange, error, ticket)
        finally:
            ticket.release()
        if outcome == "unavailable":
            servable.metrics.count_rejected("queue_full")
        total_ns = monotonic_ns() - exchange.received_ns
        servable.metrics.observe_request(self._protocol, outcome, total_ns, 0, 0, 0)
        if ticket.observer is not None:
            ticket.observer.answered(outcome, total_ns, None)

    def _decode_elsewhere(self, exchange: Exchange, ticket: Ticket, codec: Codec) -> None:
        """A large or compressed body is decoded in the pool; request or error come back with one call."""
        left: list[bool] = []
        exchange.on_disconnect = partial(left.append, True)

        def decoded(result: tuple[InferenceRequest, Reply] | Exception) -> None:
            try:
                if left:
                    raise Cancelled("the caller left before the answer")
                if isinstance(result, Exception):
                    raise result
                self._submit(exchange, ticket, *result)
            except Exception as error:
                self._give_up(exchange, ticket, error)

        def decode() -> None:
            result: tuple[InferenceRequest, Reply] | Exception
            try:
                result = codec.decode(exchange.body, exchange.headers)
            except Exception as error:
                result = error
            self._context.loop.call_soon_threadsafe(decoded, result)

        self._context.decode_pool.submit(decode)


def _blame(error: NotFinite, inputs: Mapping[str, np.ndarray]) -> InferdError:
    """Who brought in what is no number: JSON refuses it, but it comes in CSV and in binary tensors."""
    for name, array in inputs.items():
        if array.dtype.kind in "fV" and not np.isfinite(array).all():
            return InvalidRequest(f"{error.message}. Input {name!r} holds such a value too", tensor=name)
    return error


def set_deadline(request: InferenceRequest, exchange: Exchange) -> None:
    """From the time its body asks for, else from the header, both counted from its arrival. Raises
    ``InvalidRequest``."""
    if request.deadline_ns:
        request.deadline_ns += exchange.received_ns
    elif TIMEOUT_HEADER in exchange.headers:
        request.deadline_ns = exchange.received_ns + _timeout_ns(exchange.headers[TIMEOUT_HEADER])


def _timeout_ns(value: bytes) -> int:
    """``Inferd-Timeout-Ms`` in nanoseconds. Raises ``InvalidRequest`` unless it is above 0 and at most a day."""
    try:
        timeout_ms = float(value)
    except ValueError:
        timeout_ms = -1.0
    if not 0 < timeout_ms <= MAX_TIMEOUT_MS:
        raise InvalidRequest(
            "the Inferd-Timeout-Ms header must be a number of milliseconds above 0 and at most a day",
            got=value.decode("latin-1")[:40],
            expected=f"0 < milliseconds <= {MAX_TIMEOUT_MS}",
            example="250",
        )
    return int(timeout_ms * 1e6)
