"""Traces of requests by OpenTelemetry: request → queue, batch → compute, encode, built from a request's time stamps.

One batch serves many requests, each with its own trace. So each has a batch span; those of one batch carry the same
``inferd.batch.id`` and link to the batch span of the request of that batch which was answered first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from time import monotonic_ns, time_ns

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from inferd import __version__
from inferd.core.messages import InferenceRequest

Headers = Mapping[bytes, bytes]
_SERVER_FAULTS = frozenset({"internal", "unavailable", "deadline_exceeded"})
_SAMPLED = 1


class _HeaderGetter(Getter[Headers]):
    def get(self, carrier: Headers, key: str) -> list[str] | None:
        value = carrier.get(key.encode())
        return None if value is None else [value.decode("latin-1")]

    def keys(self, carrier: Headers) -> list[str]:
        return [key.decode("latin-1") for key in carrier]


class AnnouncedIds(IdGenerator):
    """Random ids, except that the next span gets those that were announced to the caller."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.trace_id = 0
        self.span_id = 0

    def announce(self, trace_id: int) -> tuple[int, int]:
        """Choose the ids of the next span; ``trace_id`` 0 begins a new trace."""
        self.trace_id = trace_id or self._random.generate_trace_id()
        self.span_id = self._random.generate_span_id()
        return self.trace_id, self.span_id

    def generate_trace_id(self) -> int:
        """See ``IdGenerator``."""
        trace_id, self.trace_id = self.trace_id, 0
        return trace_id or self._random.generate_trace_id()

    def generate_span_id(self) -> int:
        """See ``IdGenerator``."""
        span_id, self.span_id = self.span_id, 0
        return span_id or self._random.generate_span_id()


def exporting_provider(ids: IdGenerator) -> TracerProvider:
    """Sends spans in the background over OTLP; sampler, endpoint and names as the ``OTEL_…`` variables say."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "inferd")})
    provider = TracerProvider(id_generator=ids, resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class OtelTracer:
    """See ``tracing.Tracer``. ``make_provider`` gets the id generator that its provider must use."""

    def __init__(self, make_provider: Callable[[IdGenerator], TracerProvider]) -> None:
        self._ids = AnnouncedIds()
        self._provider = make_provider(self._ids)
        self._tracer = self._provider.get_tracer("inferd", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._getter = _HeaderGetter()
        self._announced: Headers | None = None
        self._batches: dict[tuple[str, int], tuple[int, SpanContext]] = {}

    def traceparent(self, headers: Headers, model: str) -> bytes | None:
        """See ``Tracer``. The header is part of the answer, ``record`` comes right after: one place is enough."""
        context = self._propagator.extract(headers, context=Context(), getter=self._getter)
        parent = get_current_span(context).get_span_context()
        trace_id, span_id = self._ids.announce(parent.trace_id)
        self._announced = headers
        sampled = self._provider.sampler.should_sample(context, trace_id, "request", SpanKind.SERVER)
        return b"00-%032x-%016x-%02x" % (
            trace_id,
            span_id,
            _SAMPLED if sampled.decision is Decision.RECORD_AND_SAMPLE else 0,
        )

    def record(
        self,
        headers: Headers,
        request: InferenceRequest,
        *,
        protocol: str,
        model: str,
        version: int,
        outcome: str,
        encoded_ns: int,
    ) -> None:
        """See ``Tracer``."""
        if self._announced is not headers:
            self._ids.announce(0)
        self._announced = None
        to_wall_ns = time_ns() - monotonic_ns()
        root = self._tracer.start_span(
            "request",
            self._propagator.extract(headers, context=Context(), getter=self._getter),
            SpanKind.SERVER,
            start_time=request.received_ns + to_wall_ns,
        )
        if root.is_recording():
            root.set_attribute("inferd.model", model)
            root.set_attribute("inferd.version", version)
            root.set_attribute("inferd.protocol", protocol)
            root.set_attribute("inferd.outcome", outcome)
            root.set_attribute("inferd.request_id", request.request_id)
            root.set_attribute("inferd.rows", request.rows)
            if outcome in _SERVER_FAULTS:
                root.set_status(Status(StatusCode.ERROR, outcome))
            self._record_stages(root, request, (model, version), encoded_ns, to_wall_ns)
        root.end(encoded_ns + to_wall_ns)

    def close(self) -> None:
        """See ``Tracer``."""
        self._provider.shutdown()

    def _record_stages(
        self, root: Span, request: InferenceRequest, key: tuple[str, int], encoded_ns: int, to_wall_ns: int
    ) -> None:
        """One span for each stage the request reached; the one it ended in ends with it."""
        below = set_span_in_context(root, Context())
        if request.queued_ns:
            queue = self._tracer.start_span("queue", below, start_time=request.queued_ns + to_wall_ns)
            queue.end((request.started_ns or encoded_ns) + to_wall_ns)
        if request.started_ns:
            batch = self._start_batch(below, request, key, to_wall_ns)
            if request.executing_ns:
                within = set_span_in_context(batch, Context())
                compute = self._tracer.start_span("compute", within, start_time=request.executing_ns + to_wall_ns)
                compute.end((request.computed_ns or encoded_ns) + to_wall_ns)
            batch.end((request.computed_ns or encoded_ns) + to_wall_ns)
        if request.computed_ns:
            encode = self._tracer.start_span("encode", below, start_time=request.computed_ns + to_wall_ns)
            encode.end(encoded_ns + to_wall_ns)

    def _start_batch(self, below: Context, request: InferenceRequest, key: tuple[str, int], to_wall_ns: int) -> Span:
        """Requests of one batch left the queue at the same nanosecond, which therefore names the batch."""
        batch_id, first = self._batches.get(key, (0, None))
        known = first is not None and batch_id == request.started_ns
        span = self._tracer.start_span(
            "batch",
            below,
            links=[Link(first)] if known and first is not None else [],
            attributes={"inferd.batch.id": f"{request.started_ns:x}", "inferd.batch.rows": request.batch_rows},
            start_time=request.started_ns + to_wall_ns,
        )
        if not known:
            self._batches[key] = (request.started_ns, span.get_span_context())
        return span
