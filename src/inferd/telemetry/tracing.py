"""What a tracer offers the protocols, and how one is made. OpenTelemetry is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from inferd.core.errors import MissingExtra
from inferd.core.messages import InferenceRequest
from inferd.telemetry.sampling import Sampler


class Tracer(Protocol):
    """Records requests after the fact. Where tracing is off there is None instead, and nothing is spent."""

    def traceparent(self, headers: Mapping[bytes, bytes], model: str) -> bytes | None:
        """The ``traceparent`` to answer with (W3C Trace Context): the trace and span that the next ``record`` with
        these very ``headers`` and this ``model`` will write."""
        ...

    def record(
        self,
        headers: Mapping[bytes, bytes],
        request: InferenceRequest,
        *,
        protocol: str,
        model: str,
        version: int,
        outcome: str,
        encoded_ns: int,
    ) -> None:
        """Write the spans of one answered request, from its time stamps. ``headers`` are the caller's, with
        lower-case names; ``encoded_ns`` is when the answer was ready. Called on the loop's thread."""
        ...

    def close(self) -> None:
        """Send what is still held back."""
        ...


class SwitchedTracer:
    """A tracer that can be told which requests to record, by its ``sampler``. See ``Tracer``."""

    def __init__(self, tracer: Tracer) -> None:
        self.sampler = Sampler()
        self._tracer = tracer
        self._announced: tuple[Mapping[bytes, bytes], bool] | None = None

    def traceparent(self, headers: Mapping[bytes, bytes], model: str) -> bytes | None:
        """See ``Tracer``; None for a request that is not recorded."""
        wanted = self.sampler.wants(model)
        self._announced = headers, wanted
        return self._tracer.traceparent(headers, model) if wanted else None

    def record(
        self,
        headers: Mapping[bytes, bytes],
        request: InferenceRequest,
        *,
        protocol: str,
        model: str,
        version: int,
        outcome: str,
        encoded_ns: int,
    ) -> None:
        """See ``Tracer``."""
        announced, self._announced = self._announced, None
        is_announced = announced is not None and announced[0] is headers
        if announced[1] if announced is not None and is_announced else self.sampler.wants(model):
            self.sampler.took(model)
            self._tracer.record(
                headers,
                request,
                protocol=protocol,
                model=model,
                version=version,
                outcome=outcome,
                encoded_ns=encoded_ns,
            )

    def close(self) -> None:
        """See ``Tracer``."""
        self._tracer.close()


def make_tracer() -> SwitchedTracer:
    """A tracer that sends to an OpenTelemetry collector, configured by the standard ``OTEL_…`` variables.

    Raises ``MissingExtra`` when OpenTelemetry is not installed.
    """
    try:
        from inferd.telemetry.otel import OtelTracer, exporting_provider
    except ModuleNotFoundError as error:
        raise MissingExtra("tracing", "otel") from error
    return SwitchedTracer(OtelTracer(exporting_provider))
