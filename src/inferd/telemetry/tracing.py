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


class SwitchedTracer:
    """A tracer that can be told which requests to record: all or none, one of ``rate``, and at most ``count`` more
    (-1: any number). See ``Tracer``."""

    def __init__(self, tracer: Tracer) -> None:
        self.on = True
        self.rate = 1
        self.count = -1
        self._tracer = tracer
        self._seen = 0
        self._announced: tuple[Mapping[bytes, bytes], bool] | None = None

    def change(self, *, on: bool | None, rate: int | None, count: int | None) -> None:
        """Change what is not None."""
        self.on = self.on if on is None else on
        self.rate = self.rate if rate is None else rate
        self.count = self.count if count is None else count

    def traceparent(self, headers: Mapping[bytes, bytes]) -> bytes | None:
        """See ``Tracer``; None for a request that is not recorded."""
        wanted = self._wanted()
        self._announced = headers, wanted
        return self._tracer.traceparent(headers) if wanted else None

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
        wanted = announced[1] if announced is not None and announced[0] is headers else self._wanted()
        if wanted:
            self.count -= self.count > 0
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

    def _wanted(self) -> bool:
        if not self.on or self.count == 0:
            return False
        self._seen += 1
        return self._seen % self.rate == 0


def make_tracer() -> SwitchedTracer:
    """A tracer that sends to an OpenTelemetry collector, configured by the standard ``OTEL_…`` variables.

    Raises ``MissingExtra`` when OpenTelemetry is not installed.
    """
    try:
        from inferd.telemetry.otel import OtelTracer, exporting_provider
    except ModuleNotFoundError as error:
        raise MissingExtra("tracing", "otel") from error
    return SwitchedTracer(OtelTracer(exporting_provider))
