"""One caller's request and its answer, with the time stamps from which every figure about it is made.

Plain slots classes: a frozen one costs four times as much to create, and these are made per request.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol

import numpy as np

from inferd.core.errors import Cancelled, InferdError

NO_PARAMETERS: Mapping[str, Any] = {}


class ResponseSink(Protocol):
    """Takes the responses of a model that gives several to one request."""

    def put(self, outputs: Mapping[str, np.ndarray]) -> bool:
        """Take one, in the thread of the model, waiting for room; False when no more are wanted."""
        ...


def _ignore(request: InferenceRequest) -> None:
    """The callback of a request nobody waits for."""


class InferenceRequest:
    """One caller's tensors and the callback that takes their answer.

    Owned by whoever holds it; answered exactly once, on the loop's thread: ``on_done(request)`` is called with
    ``outputs`` set on success or ``error`` set otherwise. ``inputs`` are read-only to everyone.

    ``deadline_ns`` and all stamps are ``time.monotonic_ns``; 0 means none yet. In order: ``received_ns`` (front),
    ``queued_ns`` (scheduler took it), ``started_ns`` (left the queue in a batch), ``executing_ns`` and
    ``computed_ns`` (the model began and ended).

    With a ``sink`` the model's responses go there one by one, and the request is answered with no outputs after them.
    """

    __slots__ = (
        "batch_rows",
        "computed_ns",
        "deadline_ns",
        "done",
        "error",
        "executing_ns",
        "inputs",
        "key",
        "on_cancel",
        "on_done",
        "outputs",
        "parameters",
        "queued_ns",
        "received_ns",
        "request_id",
        "rows",
        "signature",
        "sink",
        "started_ns",
        "wanted",
    )

    def __init__(
        self,
        inputs: Mapping[str, np.ndarray],
        *,
        wanted: tuple[str, ...] = (),
        parameters: Mapping[str, Any] = NO_PARAMETERS,
        signature: str = "",
        received_ns: int = 0,
        deadline_ns: int = 0,
        request_id: str = "",
    ) -> None:
        self.inputs = inputs
        self.wanted = wanted
        self.parameters = parameters
        self.signature = signature
        self.received_ns = received_ns
        self.deadline_ns = deadline_ns
        self.request_id = request_id
        self.on_done: Callable[[InferenceRequest], None] = _ignore
        self.on_cancel: Callable[[InferenceRequest], None] = _ignore
        self.outputs: Mapping[str, np.ndarray] | None = None
        self.error: InferdError | None = None
        self.sink: ResponseSink | None = None
        self.done = False
        self.rows = 1
        self.key: Hashable = None
        self.batch_rows = 0
        self.queued_ns = 0
        self.started_ns = 0
        self.executing_ns = 0
        self.computed_ns = 0

    def complete(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Answer with ``outputs``; a second answer is dropped."""
        if not self.done:
            self.done = True
            self.outputs = outputs
            self.on_done(self)

    def fail(self, error: InferdError) -> None:
        """Answer with ``error``; a second answer is dropped."""
        if not self.done:
            self.done = True
            self.error = error
            self.on_done(self)

    def cancel(self) -> None:
        """The caller left: never execute this request if it still waits. Safe to call at any time on the loop."""
        if not self.done:
            self.on_cancel(self)
            self.fail(Cancelled("the caller left before the answer"))

    def __repr__(self) -> str:
        state = "failed" if self.error else "answered" if self.done else "running" if self.started_ns else "waiting"
        return f"<InferenceRequest {self.request_id or '-'} rows={self.rows} {state}>"
