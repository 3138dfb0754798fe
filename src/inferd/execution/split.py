"""An over-large request is cut into parts of at most one batch each, and their answers are joined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inferd.core.messages import InferenceRequest


class _Join:
    """Waits for all parts, then completes the whole; the first error fails the whole and cancels the rest."""

    __slots__ = ("_missing", "_parts", "_whole")

    def __init__(self, whole: InferenceRequest, parts: Sequence[InferenceRequest]) -> None:
        self._whole = whole
        self._parts = parts
        self._missing = len(parts)
        whole.on_cancel = self._cancel
        for part in parts:
            part.on_done = self._part_done

    def _part_done(self, part: InferenceRequest) -> None:
        whole = self._whole
        self._missing -= 1
        if whole.done:
            return
        if part.error is not None:
            whole.fail(part.error)
            self._cancel(whole)
        elif not self._missing:
            self._complete()

    def _complete(self) -> None:
        whole, parts = self._whole, self._parts
        whole.queued_ns = parts[0].queued_ns
        whole.started_ns = parts[0].started_ns
        whole.executing_ns = parts[0].executing_ns
        whole.computed_ns = parts[-1].computed_ns
        whole.batch_rows = parts[0].batch_rows
        answers = [part.outputs or {} for part in parts]
        whole.complete({name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]})

    def _cancel(self, whole: InferenceRequest) -> None:
        for part in self._parts:
            part.cancel()


def split_request(whole: InferenceRequest, max_rows: int) -> list[InferenceRequest]:
    """Parts of ``whole`` of at most ``max_rows`` rows, as views; completing all of them completes ``whole``."""
    parts = []
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
        parts.append(part)
    _Join(whole, parts)
    return parts
