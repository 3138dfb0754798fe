"""What a tracer offers the protocols, and how one is made. OpenTelemetry is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from inferd.core.errors import MissingExtra
from inferd.core.messages import InferenceRequest


class Tracer(Protocol):
    """Records requests after the fact. Where tracing is off there is None instead, and nothing is spent."""

    def traceparent(self, headers: Mapping[bytes, bytes]) -> bytes | None:
        """The ``traceparent`` to answer with (W3C Trace Context): the trace and span that the next ``record`` with
        these very ``headers`` will write."""
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


def make_tracer() -> Tracer:
    """A tracer that sends to an OpenTelemetry collector, configured by the standard ``OTEL_…`` variables.

    Raises ``MissingExtra`` when OpenTelemetry is not installed.
    """
    try:
        from inferd.telemetry.otel import OtelTracer, exporting_provider
    except ModuleNotFoundError as error:
        raise MissingExtra("tracing", "otel") from error
    return OtelTracer(exporting_provider)
