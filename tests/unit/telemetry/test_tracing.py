import subprocess
import sys
from time import monotonic_ns, time_ns

import numpy as np
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from inferd.core.errors import MissingExtra
from inferd.core.messages import InferenceRequest
from inferd.telemetry.otel import OtelTracer

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = {b"traceparent": f"00-{TRACE}-{SPAN}-01".encode(), b"tracestate": b"vendor=1"}


class Recorder:
    """A tracer that keeps its spans in memory."""

    def __init__(self, sampler=None):
        self.exporter = InMemorySpanExporter()
        self.tracer = OtelTracer(lambda ids: self._provider(ids, sampler))

    def _provider(self, ids, sampler):
        provider = TracerProvider(id_generator=ids, sampler=sampler)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        return provider

    def record(self, request, headers=None, outcome="ok"):
        self.tracer.record(
            {} if headers is None else headers,
            request,
            protocol="native",
            model="iris",
            version=3,
            outcome=outcome,
            encoded_ns=request.received_ns + 9000,
        )

    def spans(self):
        """The spans since the last call, by name; each name once."""
        finished = self.exporter.get_finished_spans()
        self.exporter.clear()
        named = {span.name: span for span in finished}
        assert len(named) == len(finished)
        return named


@pytest.fixture
def recorder():
    return Recorder()


def answered(started_after_ns: int = 2000, now_ns: int | None = None) -> InferenceRequest:
    """A request that went through all stages."""
    now_ns = now_ns or monotonic_ns()
    request = InferenceRequest({"x": np.zeros(1)}, received_ns=now_ns, request_id="abc-1")
    request.rows = 2
    request.queued_ns = now_ns + 1000
    request.started_ns = now_ns + started_after_ns
    request.executing_ns = now_ns + 3000
    request.computed_ns = now_ns + 7000
    request.batch_rows = 8
    return request


def test_a_request_becomes_a_span_with_one_for_each_stage(recorder):
    recorder.record(answered())
    spans = recorder.spans()
    parents = {name: span.parent.span_id if span.parent else None for name, span in spans.items()}
    ids = {name: span.context.span_id for name, span in spans.items()}
    assert parents == {
        "request": None,
        "queue": ids["request"],
        "batch": ids["request"],
        "compute": ids["batch"],
        "encode": ids["request"],
    }
    assert len({span.context.trace_id for span in spans.values()}) == 1


def test_spans_have_the_times_of_the_stamps_on_the_wall_clock(recorder):
    request = answered()
    recorder.record(request)
    spans = recorder.spans()
    origin_ns = spans["request"].start_time
    times = {name: (span.start_time - origin_ns, span.end_time - origin_ns) for name, span in spans.items()}
    assert times == {
        "request": (0, 9000),
        "queue": (1000, 2000),
        "batch": (2000, 7000),
        "compute": (3000, 7000),
        "encode": (7000, 9000),
    }
    assert abs(origin_ns - time_ns()) < 3600 * 10**9


def test_the_request_span_says_what_was_asked_and_how_it_went(recorder):
    recorder.record(answered())
    span = recorder.spans()["request"]
    assert span.kind is SpanKind.SERVER
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes) == {
        "inferd.model": "iris",
        "inferd.version": 3,
        "inferd.protocol": "native",
        "inferd.outcome": "ok",
        "inferd.request_id": "abc-1",
        "inferd.rows": 2,
    }


def test_the_callers_trace_is_continued(recorder):
    recorder.record(answered(), CALLER)
    span = recorder.spans()["request"]
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == SPAN
    assert span.context.trace_state.get("vendor") == "1"


@pytest.mark.parametrize("headers", [{}, CALLER])
def test_the_traceparent_of_the_answer_names_the_span_that_is_recorded(recorder, headers):
    announced = recorder.tracer.traceparent(headers, "m")
    recorder.record(answered(), headers)
    context = recorder.spans()["request"].context
    assert announced == b"00-%032x-%016x-01" % (context.trace_id, context.span_id)
    recorder.record(answered(), headers)
    assert recorder.spans()["request"].context.span_id != context.span_id


def test_an_announced_span_is_not_taken_by_another_request(recorder):
    announced = recorder.tracer.traceparent({}, "m")
    recorder.record(answered(), {})
    context = recorder.spans()["request"].context
    assert b"%016x" % context.span_id not in announced


@pytest.mark.parametrize("value", [b"", b"garbage", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", b"\xff\xfe"])
def test_a_bad_traceparent_starts_a_new_trace(recorder, value):
    headers = {b"traceparent": value}
    assert recorder.tracer.traceparent(headers, "m")
    recorder.record(answered(), headers)
    assert recorder.spans()["request"].parent is None


def test_an_unsampled_request_writes_no_span_and_says_so():
    recorder = Recorder(ParentBased(ALWAYS_OFF))
    headers = {}
    announced = recorder.tracer.traceparent(headers, "m")
    recorder.record(answered(), headers)
    assert recorder.spans() == {}
    assert announced.endswith(b"-00")
    sampled_by_caller = recorder.tracer.traceparent(CALLER, "m")
    recorder.record(answered(), CALLER)
    assert sampled_by_caller.endswith(b"-01")
    assert "request" in recorder.spans()


def test_the_requests_of_one_batch_are_linked_to_the_first_of_them(recorder):
    now_ns = monotonic_ns()
    batches = []
    for _ in range(3):
        recorder.record(answered(now_ns=now_ns))
        batches.append(recorder.spans()["batch"])
    recorder.record(answered(2500, now_ns=now_ns))
    other = recorder.spans()["batch"]
    first = batches[0].context
    assert [[link.context.span_id for link in batch.links] for batch in batches] == [
        [],
        [first.span_id],
        [first.span_id],
    ]
    assert len({batch.context.trace_id for batch in batches}) == 3
    assert len({batch.attributes["inferd.batch.id"] for batch in batches}) == 1
    assert batches[0].attributes["inferd.batch.rows"] == 8
    assert other.links == ()
    assert other.attributes["inferd.batch.id"] != batches[0].attributes["inferd.batch.id"]


def test_a_request_that_expired_in_the_queue_has_only_that_stage_and_is_an_error(recorder):
    request = answered()
    request.started_ns = request.executing_ns = request.computed_ns = 0
    recorder.record(request, outcome="deadline_exceeded")
    spans = recorder.spans()
    assert spans.keys() == {"request", "queue"}
    assert spans["request"].status.status_code is StatusCode.ERROR
    assert spans["queue"].end_time == spans["request"].end_time


def test_a_callers_mistake_is_not_the_servers_error(recorder):
    recorder.record(answered(), outcome="invalid_argument")
    assert recorder.spans()["request"].status.status_code is StatusCode.UNSET


def test_opentelemetry_is_not_imported_until_a_tracer_is_made():
    code = "import sys, inferd.telemetry.tracing; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_tracer_without_opentelemetry_names_the_extra():
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from inferd.telemetry.tracing import make_tracer\n"
        "try: make_tracer()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.startswith(MissingExtra.__name__)
    assert "pip install 'inferd[otel]'" in output


def test_a_made_tracer_is_named_by_the_environment(monkeypatch):
    from inferd.telemetry.otel import exporting_provider

    monkeypatch.setenv("OTEL_SERVICE_NAME", "fraud")
    tracer = OtelTracer(exporting_provider)
    assert tracer._provider.resource.attributes["service.name"] == "fraud"
    tracer.close()
