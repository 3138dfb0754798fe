"""An over-large request is cut into parts of at most one batch each, and their answers are joined.

Only a few parts wait in the queue at a time: the others follow as these are answered, so that one caller's million rows
do not stand in everybody's way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from inferd.core.messages import InferenceRequest


class SplitRequest:
    """Executes ``whole`` part by part; the first error fails the whole and drops what is left of it."""

    __slots__ = ("_answers", "_missing", "_parts", "_push", "_waiting", "_whole")

    def __init__(self, whole: InferenceRequest, max_rows: int, push: Callable[[InferenceRequest], None]) -> None:
        """``push`` puts a part into the queue."""
        self._whole = whole
        self._push = push
        self._parts = enumerate(_parts(whole, max_rows))
        self._missing = -(-whole.rows // max_rows)
        self._answers: list[InferenceRequest | None] = [None] * self._missing
        self._waiting: set[InferenceRequest] = set()
        whole.on_cancel = self._cancel

    def push_next(self) -> None:
        """Put the next part into the queue, if there is one left and anybody still wants it."""
        if self._whole.done:
            return
        for index, part in self._parts:
            part.on_done = partial(self._part_done, index)
            self._waiting.add(part)
            self._push(part)
            return

    def _part_done(self, index: int, part: InferenceRequest) -> None:
        whole = self._whole
        self._waiting.discard(part)
        self._missing -= 1
        if whole.done:
            return
        if part.error is not None:
            whole.fail(part.error)
            self._cancel(whole)
            return
        self._answers[index] = part
        if self._missing:
            self.push_next()
        else:
            self._complete([answer for answer in self._answers if answer is not None])

    def _complete(self, parts: list[InferenceRequest]) -> None:
        whole, first = self._whole, parts[0]
        whole.queued_ns = first.queued_ns
        whole.started_ns = first.started_ns
        whole.executing_ns = first.executing_ns
        whole.computed_ns = max(part.computed_ns for part in parts)
        whole.batch_rows = first.batch_rows
        answers = [part.outputs or {} for part in parts]
        whole.complete({name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]})

    def _cancel(self, whole: InferenceRequest) -> None:
        for part in tuple(self._waiting):
            part.cancel()


def _parts(whole: InferenceRequest, max_rows: int) -> Iterator[InferenceRequest]:
    """Parts of ``whole`` of at most ``max_rows`` rows, as views."""
    for start in range(0, whole.rows, max_rows):
        part = InferenceRequest(
            {name: array[start : start + max_rows] for name, array in whole.inputs.items()},
            wanted=whole.wanted,
            parameters=whole.parameters,
            signature=whole.signature,
            received_ns=whole.received_ns,
            deadline_ns=whole.deadline_ns,
            request_id=whole.request_id,
        )
        part.rows = min(max_rows, whole.rows - start)
        part.key = whole.key
        yield part
