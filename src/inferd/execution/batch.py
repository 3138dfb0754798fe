"""One batch: stack its requests, execute them on a model, split the results, and find the culprits of a failure.

Hot: benchmarks/run.py. Runs in an instance's thread, or on the loop for an inline model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from time import monotonic_ns
from typing import cast

import numpy as np

from inferd.abc import Model, StreamingModel
from inferd.core.errors import ExecutionFailed, InferdError, InvalidInput, WrongRowCount
from inferd.core.messages import InferenceRequest, ResponseSink

logger = logging.getLogger("inferd.execution")

Outputs = Mapping[str, np.ndarray]


class Batch:
    """Requests that share a key, executed together; ``answers`` then pairs each with its outputs or error. Nobody waits
    for a ``background`` one: it never runs on the loop."""

    __slots__ = (
        "answers",
        "background",
        "computed_ns",
        "executing_ns",
        "on_done",
        "padded_rows",
        "reason",
        "requests",
        "rows",
    )

    def __init__(self, requests: Sequence[InferenceRequest], rows: int, reason: str) -> None:
        self.requests = requests
        self.rows = rows
        self.reason = reason
        self.background = False
        self.answers: Sequence[tuple[InferenceRequest, Outputs | InferdError]] = ()
        self.on_done: Callable[[Batch], None] = _nobody
        self.padded_rows = 0
        self.executing_ns = 0
        self.computed_ns = 0

    def execute(self, model: Model, allowed_sizes: Sequence[int] = ()) -> None:
        """Fill ``answers``; never raises, so that a thread which runs it lives on."""
        self.executing_ns = monotonic_ns()
        requests = self.requests
        if requests:
            results = self._execute(model, requests, self.rows, allowed_sizes)
            self.answers = list(zip(requests, results, strict=True))
        self.computed_ns = monotonic_ns()

    def drop_answered(self) -> None:
        """Leave out those who left or expired since the batch was made."""
        waiting = [request for request in self.requests if not request.done]
        if len(waiting) < len(self.requests):
            self.requests = waiting
            self.rows = sum(request.rows for request in waiting)

    def _execute(
        self, model: Model, requests: Sequence[InferenceRequest], rows: int, allowed_sizes: Sequence[int]
    ) -> Sequence[Outputs | InferdError]:
        first = requests[0]
        try:
            if first.sink is not None:
                return (_stream(model, first, first.sink),)
            inputs = stack(requests)
            padding = next((size for size in allowed_sizes if size >= rows), rows) - rows if allowed_sizes else 0
            if padding:
                self.padded_rows += padding
                inputs = {name: np.concatenate((x, np.repeat(x[-1:], padding, 0))) for name, x in inputs.items()}
            outputs = model.execute(inputs, first.wanted, first.parameters, first.signature)
            if not model.batchable:
                return (outputs,)
            return split(outputs, requests, rows, padding)
        except WrongRowCount as error:
            logger.error("%s", error.message, extra={"request_id": first.request_id})
            return [error] * len(requests)
        # A model's code may raise anything, SystemExit too; none of it may end the thread or reach another caller.
        except BaseException as error:
            if len(requests) == 1:
                return (_as_error(error, first),)
        half = len(requests) // 2
        head, tail = requests[:half], requests[half:]
        head_rows = sum(request.rows for request in head)
        return [
            *self._execute(model, head, head_rows, allowed_sizes),
            *self._execute(model, tail, rows - head_rows, allowed_sizes),
        ]

    def __repr__(self) -> str:
        return f"<Batch of {len(self.requests)} requests, {self.rows} rows, {self.reason}>"


def _nobody(batch: Batch) -> None:
    """The completion of a batch nobody waits for."""


def stack(requests: Sequence[InferenceRequest]) -> Mapping[str, np.ndarray]:
    """The requests' inputs joined along the first dimension; a single request's inputs are passed on uncopied."""
    if len(requests) == 1:
        return requests[0].inputs
    return {name: np.concatenate([request.inputs[name] for request in requests]) for name in requests[0].inputs}


def split(outputs: Outputs, requests: Sequence[InferenceRequest], rows: int, padding: int = 0) -> Sequence[Outputs]:
    """Cut ``outputs`` into one view a request, by row counts, dropping ``padding`` rows at the end.

    Raises ``WrongRowCount`` when an output's first dimension is not the number of rows executed.
    """
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != rows + padding:
            raise WrongRowCount(
                f"the model answered {array.shape[0] if array.ndim else 'no'} rows in output {name!r} "
                f"for {rows + padding} rows of input"
            )
    if len(requests) == 1 and not padding:
        return (outputs,)
    results: list[Outputs] = []
    start = 0
    if len(outputs) == 1:
        # Without the inner loop: a third of the time for the commonest model.
        ((name, array),) = outputs.items()
        for request in requests:
            end = start + request.rows
            results.append({name: array[start:end]})
            start = end
        return results
    for request in requests:
        end = start + request.rows
        results.append({name: array[start:end] for name, array in outputs.items()})
        start = end
    return results


def _stream(model: Model, request: InferenceRequest, sink: ResponseSink) -> Outputs:
    """Give the model's responses to ``sink`` until there are no more, or nobody wants them; no outputs are left.

    Closing the iterator runs the ``finally`` blocks of the model's own code.
    """
    streaming = cast(StreamingModel, model)
    with closing(streaming.stream(request.inputs, request.wanted, request.parameters, request.signature)) as parts:
        for outputs in parts:
            if request.done or not sink.put(outputs):
                break
    return {}


def _as_error(error: BaseException, request: InferenceRequest) -> InferdError:
    """The caller's error for what the model raised; the traceback goes to the log with the request's id."""
    if isinstance(error, InvalidInput):
        return error
    logger.error("the model failed", exc_info=error, extra={"request_id": request.request_id})
    return ExecutionFailed("the model failed on this request; the server's log has the details under its request id")
