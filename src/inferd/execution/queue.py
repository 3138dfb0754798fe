"""The bounded queue and the batch decision: no clock of its own, no loop, so that every case is a plain test.

Requests wait in lanes of one batch key each; lanes take turns, so no key starves another. Rows are counted, not
requests. Everything here is O(1) per request.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from inferd.core.config import BatchingConfig
from inferd.core.messages import InferenceRequest
from inferd.execution.batch import Batch


class _Lane:
    """The waiting requests of one batch key, oldest first. An ordered dict, as a caller who leaves is removed."""

    __slots__ = ("requests", "rows")

    def __init__(self) -> None:
        self.requests: OrderedDict[InferenceRequest, None] = OrderedDict()
        self.rows = 0


class BatchQueue:
    """Waiting requests of one version, and the decision which of them to execute together.

    ``one_at_a_time`` executes each request alone, for models that cannot be batched or have batching off.
    """

    def __init__(self, config: BatchingConfig, *, one_at_a_time: bool = False) -> None:
        self._max_rows = 0 if one_at_a_time else config.max_batch_size
        self.max_rows = config.max_queue_size
        self._max_wait_ns = 0 if one_at_a_time else int(config.max_wait_ms * 1e6)
        self._lanes: OrderedDict[Hashable, _Lane] = OrderedDict()
        self.rows = 0

    def has_room(self, rows: int) -> bool:
        """Whether ``rows`` more fit. An empty queue takes a request of any size."""
        return not self.rows or self.rows + rows <= self.max_rows

    def push(self, request: InferenceRequest, now_ns: int) -> None:
        """Put ``request`` at the end of its lane."""
        lane = self._lanes.get(request.key)
        if lane is None:
            lane = self._lanes[request.key] = _Lane()
        request.queued_ns = now_ns
        lane.requests[request] = None
        lane.rows += request.rows
        self.rows += request.rows

    def remove(self, request: InferenceRequest) -> bool:
        """Forget a waiting request; False when it does not wait here (any more)."""
        lane = self._lanes.get(request.key)
        if lane is None or request not in lane.requests:
            return False
        del lane.requests[request]
        lane.rows -= request.rows
        self.rows -= request.rows
        if not lane.requests:
            del self._lanes[request.key]
        return True

    def take(self, now_ns: int) -> Batch | None:
        """The next batch to execute now, or None when there is none or all lanes still wait for more rows."""
        for key, lane in self._lanes.items():
            reason = self._reason(lane, now_ns)
            if reason:
                return self._take_from(key, lane, reason, now_ns)
        return None

    def wake_ns(self) -> int:
        """When the oldest request of some lane will have waited long enough; only asked while requests wait."""
        return min(next(iter(lane.requests)).queued_ns for lane in self._lanes.values()) + self._max_wait_ns

    def _reason(self, lane: _Lane, now_ns: int) -> str:
        """Why the lane leaves now, or "" when it waits for more rows."""
        if lane.rows >= self._max_rows:
            return "full"
        if not self._max_wait_ns:
            return "idle"
        oldest = next(iter(lane.requests))
        return "timeout" if now_ns - oldest.queued_ns >= self._max_wait_ns else ""

    def _take_from(self, key: Hashable, lane: _Lane, reason: str, now_ns: int) -> Batch:
        waiting = lane.requests
        taken: list[InferenceRequest] = []
        rows = 0
        if lane.rows <= self._max_rows:
            taken.extend(waiting)
            rows = lane.rows
            del self._lanes[key]
        else:
            for request in waiting:
                if taken and rows + request.rows > self._max_rows:
                    break
                taken.append(request)
                rows += request.rows
            for request in taken:
                del waiting[request]
            lane.rows -= rows
            if waiting:
                self._lanes.move_to_end(key)
            else:
                del self._lanes[key]
        for request in taken:
            request.started_ns = now_ns
            request.batch_rows = rows
        self.rows -= rows
        return Batch(taken, rows, reason)

    def __repr__(self) -> str:
        return f"<BatchQueue {self.rows} rows in {len(self._lanes)} lanes>"
