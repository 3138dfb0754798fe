"""Run captured requests through a loaded version, by the scheduler and the batch code of the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from time import monotonic_ns

from inferd.core.errors import InferdError
from inferd.core.messages import InferenceRequest
from inferd.repository.loader import LoadedVersion
from inferd.repository.servables import make_servable
from inferd.serving.capture import CapturedRequest
from inferd.serving.engine import Engine
from inferd.telemetry.metrics import Metrics


def run_requests(
    loaded: LoadedVersion, captured: Sequence[CapturedRequest], concurrency: int, advance: Callable[[], None]
) -> list[CapturedRequest]:
    """What ``loaded`` makes of each request, in order, at most ``concurrency`` of them at a time. A request that it
    refuses or fails on has the error as its outcome. ``advance`` is called after each."""
    with _failures() as failures:
        results = asyncio.run(_run(loaded, captured, concurrency, advance))
    for number, result in enumerate(results):
        result.reason = failures.reasons.get(str(number), result.reason)
    return results


async def _run(
    loaded: LoadedVersion, captured: Sequence[CapturedRequest], concurrency: int, advance: Callable[[], None]
) -> list[CapturedRequest]:
    engine, room = Engine(), asyncio.Semaphore(concurrency)
    servable = make_servable(loaded, asyncio.get_running_loop(), Metrics(lambda: ()))
    servable.cache = None  # each request is to be computed
    results = list(captured)

    def done(number: int, request: InferenceRequest) -> None:
        results[number] = _result(captured[number], request, loaded.version)
        advance()
        room.release()

    for number, each in enumerate(captured):
        await room.acquire()
        request = InferenceRequest(
            each.inputs,
            wanted=each.wanted,
            parameters=each.parameters,
            signature=each.signature,
            received_ns=monotonic_ns(),
            request_id=str(number),  # under which a failure is logged
        )
        request.on_done = partial(done, number)
        try:
            engine.submit(servable.ticket, request)
        except InferdError as error:
            request.fail(error)
    for _ in range(concurrency):
        await room.acquire()
    servable.batcher.close()
    return results


def _result(each: CapturedRequest, request: InferenceRequest, version: int) -> CapturedRequest:
    error = request.error
    return replace(
        each,
        version=version,
        outcome="ok" if error is None else error.code.value.lower(),
        reason="" if error is None else error.message,
        outputs=request.outputs or {},
        batch_rows=request.batch_rows,
        queue_ns=max(request.started_ns - request.queued_ns, 0),
        compute_ns=max(request.computed_ns - request.executing_ns, 0),
        total_ns=monotonic_ns() - request.received_ns,
    )


class _Failures(logging.Handler):
    """What a model raised, by request id: a server logs it, and callers are told nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one failure."""
        error = record.exc_info[1] if record.exc_info else None
        self.reasons[getattr(record, "request_id", "")] = (
            record.getMessage() if error is None else f"{type(error).__name__}: {error}"
        )


@contextmanager
def _failures() -> Iterator[_Failures]:
    logger, handler = logging.getLogger("inferd.execution"), _Failures()
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
