"""The scheduler: a small shell on the loop around the queue. It hands batches to idle instances, keeps the clocks, and
completes each request once.

Hot: benchmarks/run.py. All requests that arrive in one turn of the loop are considered together, so concurrent
callers share a batch without anybody waiting.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic_ns
from typing import Protocol

from inferd.core.config import BatchingConfig
from inferd.core.errors import DeadlineExceeded, InferdError, ModelNotReady, Overloaded
from inferd.core.messages import InferenceRequest
from inferd.execution.batch import Batch
from inferd.execution.queue import BatchQueue
from inferd.execution.split import SplitRequest

logger = logging.getLogger("inferd.execution")

SLOW_BATCHES = 8
FAR_FUTURE_NS = 1 << 62


class BatchInstance(Protocol):
    """What executes a batch and calls ``batch.on_done`` on the loop; before ``execute`` returns for a batch of at
    most ``inline_rows`` rows that is not a background one."""

    inline_rows: int

    def execute(self, batch: Batch) -> None:
        """Take ``batch``."""

    def close(self) -> None:
        """Stop after the batch in hand."""


class BatchMetrics(Protocol):
    """What the batcher tells the metrics of its version."""

    def observe_batch(self, reason: str, requests: int, rows: int, compute_ns: int, padded_rows: int = 0) -> None:
        """One executed batch."""

    def count_expired(self, stage: str) -> None:
        """One request whose time ran out."""

    def count_cancelled(self, stage: str) -> None:
        """One request whose caller left."""


class Batcher:
    """Takes requests, completes each once by its callback on the loop. ``statistics()`` tells where it stands.

    Background requests are those nobody waits for: they run when an instance is idle and no caller's request waits, in
    batches and a thread of their own, and are no part of the version's metrics.
    """

    def __init__(
        self,
        instances: Sequence[BatchInstance],
        config: BatchingConfig,
        metrics: BatchMetrics,
        loop: asyncio.AbstractEventLoop,
        *,
        batchable: bool,
        compute_timeout_ms: float = 0.0,
        inline_max_us: float = math.inf,
        clock_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        """``inline_max_us`` is what a batch on the loop may take before the instance is told to use its thread for all.
        ``clock_ns`` counts with the loop's clock, but finer: uvloop's own has milliseconds."""
        one_at_a_time = not batchable or config.enabled is False
        self._queue = BatchQueue(config, one_at_a_time=one_at_a_time)
        self._background = BatchQueue(replace(config, max_wait_ms=0), one_at_a_time=one_at_a_time)
        self._takes_background = True
        self._split_rows = 0 if one_at_a_time else config.max_batch_size
        self._queue_timeout_ns = int(config.queue_timeout_ms * 1e6)
        self._compute_timeout_s = compute_timeout_ms / 1e3
        self._metrics = metrics
        self._loop = loop
        self._instances = list(instances)
        self._idle = list(instances)
        self._wedged: set[BatchInstance] = set()
        self._turn_scheduled = False
        self._wake: asyncio.TimerHandle | None = None
        self._deadlines: list[tuple[int, int, InferenceRequest]] = []
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._armed_ns = 0
        self._sequence = 0
        self._compact_at = 1024
        self._ns_per_row = 0.0
        self._inline_max_ns = inline_max_us * 1e3
        self._slow_batches = 0
        self._clock_ns = clock_ns

    def submit(self, request: InferenceRequest) -> None:
        """Take ``request``. Raises ``Overloaded`` with a computed ``retry_after_s`` when there is no room, and
        ``ModelNotReady`` when every instance is wedged: then it was not taken."""
        if self._wedged and self.wedged:
            raise ModelNotReady("every instance is busy beyond its compute timeout", retry_after_s=1)
        if request.rows > self._split_rows > 0:
            self._submit_split(request)
            return
        if not self._queue.has_room(request.rows):
            raise self._overloaded()
        self._push(request)

    def submit_background(self, request: InferenceRequest) -> None:
        """Take a request that nobody waits for. Raises as ``submit`` does, and ``ModelNotReady`` once there is no
        background work any more."""
        if self.wedged or not self._takes_background:
            raise ModelNotReady("nothing runs in the background now", retry_after_s=1)
        if not self._background.has_room(min(request.rows, self._split_rows or request.rows)):
            raise self._overloaded()
        if request.rows > self._split_rows > 0:
            SplitRequest(request, self._split_rows, self._push_background).push_next()
        else:
            self._push_background(request)

    def stop_background(self) -> None:
        """Give up what waits in the background, and take no more; what runs goes on."""
        self._takes_background = False
        _refuse_waiting(self._background, ModelNotReady("the version is draining", retry_after_s=1))

    def _submit_split(self, request: InferenceRequest) -> None:
        """Of an over-large request one part for each instance and one to follow at once wait in the queue, so it needs
        room for no more."""
        parts = len(self._instances) + 1
        if not self._queue.has_room(min(request.rows, parts * self._split_rows)):
            raise self._overloaded()
        split = SplitRequest(request, self._split_rows, self._push)
        for _ in range(parts):
            split.push_next()

    def _push(self, request: InferenceRequest) -> None:
        now_ns = self._clock_ns()
        self._queue.push(request, now_ns)
        request.on_cancel = self._cancelled
        if request.deadline_ns or self._queue_timeout_ns:
            self._watch(request, now_ns)
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)

    def _push_background(self, request: InferenceRequest) -> None:
        self._background.push(request, self._clock_ns())
        self._turn_soon()

    def _turn_soon(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Once a loop turn: give what is there to the instances that are idle."""
        while self._idle and self._queue.rows:
            batch = self._queue.take(self._clock_ns())
            if batch is None:
                self._wake_later()
                break
            self._dispatch(self._idle.pop(), batch)
            if batch.computed_ns and self._queue.rows:
                # One inline batch a turn: sockets and timers get theirs between two.
                self._loop.call_soon(self._turn)
                return
        self._turn_scheduled = False
        if self._background.rows:
            self._dispatch_background()

    def _dispatch_background(self) -> None:
        while self._idle and not self._queue.rows:
            batch = self._background.take(self._clock_ns())
            if batch is None:
                return
            batch.background = True
            self._dispatch(self._idle.pop(), batch)

    def _dispatch(self, instance: BatchInstance, batch: Batch) -> None:
        timer = None
        if self._compute_timeout_s:
            timer = self._loop.call_later(self._compute_timeout_s, self._overran, instance, batch)
        batch.on_done = partial(self._completed, instance, batch.rows, timer)
        instance.execute(batch)

    def _completed(self, instance: BatchInstance, rows: int, timer: asyncio.TimerHandle | None, batch: Batch) -> None:
        """Free the instance, then answer: a thread computes the next batch while this one is encoded."""
        if timer is not None:
            timer.cancel()
            self._wedged.discard(instance)
        self._idle.append(instance)
        compute_ns = batch.computed_ns - batch.executing_ns
        if rows <= instance.inline_rows and not batch.background:
            self._watch_inline(instance, compute_ns)
        elif self._queue.rows and not self._turn_scheduled:
            self._turn_scheduled = True
            self._turn()
        if self._background.rows:
            self._turn_soon()
        if not batch.answers:
            return
        if not batch.background:
            self._ns_per_row += 0.1 * (compute_ns / batch.rows - self._ns_per_row)
            self._metrics.observe_batch(batch.reason, len(batch.answers), batch.rows, compute_ns, batch.padded_rows)
        for request, result in batch.answers:
            request.executing_ns = batch.executing_ns
            request.computed_ns = batch.computed_ns
            try:
                if isinstance(result, InferdError):
                    request.fail(result)
                else:
                    request.complete(result)
            # A defect in one caller's answer must not cost the others theirs.
            except Exception:
                logger.exception("an answer could not be given", extra={"request_id": request.request_id})

    def _watch_inline(self, instance: BatchInstance, compute_ns: int) -> None:
        """Send everything to the thread once a number of inline batches in a row were too slow. One alone says little:
        the machine may have been busy elsewhere."""
        if compute_ns <= self._inline_max_ns:
            self._slow_batches = 0
            return
        self._slow_batches += 1
        if self._slow_batches >= SLOW_BATCHES:
            logger.warning("an inline model takes %d us a batch: it goes on in a thread", compute_ns // 1000)
            instance.inline_rows = 0

    def _overran(self, instance: BatchInstance, batch: Batch) -> None:
        """The compute timeout fired: answer the callers. The instance is wedged until the model returns, and nothing
        waits for instances that are all wedged."""
        self._wedged.add(instance)
        logger.error("%r runs beyond its compute timeout of %g ms", batch, self._compute_timeout_s * 1e3)
        if self.wedged:
            error = ModelNotReady("every instance runs beyond its compute timeout", retry_after_s=1)
            _refuse_waiting(self._queue, error)
            _refuse_waiting(self._background, error)
        for request in batch.requests:
            if not request.done:
                if not batch.background:
                    self._metrics.count_expired("compute")
                request.fail(DeadlineExceeded("the model ran beyond its compute_timeout_ms"))

    def _wake_later(self) -> None:
        """Look again when the oldest request has waited max_wait_ms."""
        if self._wake is None:
            delay_s = max(0, self._queue.wake_ns() - self._clock_ns()) / 1e9
            self._wake = self._loop.call_later(delay_s, self._woken)

    def _woken(self) -> None:
        self._wake = None
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._turn()

    def _cancelled(self, request: InferenceRequest) -> None:
        """The caller left: a waiting request is forgotten now, a running one's answer is dropped when it comes."""
        self._metrics.count_cancelled("queue" if self._queue.remove(request) else "running")

    def _watch(self, request: InferenceRequest, now_ns: int) -> None:
        """Set the request's clock or clocks."""
        if request.deadline_ns:
            self._add_deadline(request.deadline_ns, request)
        if self._queue_timeout_ns:
            self._add_deadline(now_ns + self._queue_timeout_ns, request)
        self._arm()

    def _add_deadline(self, when_ns: int, request: InferenceRequest) -> None:
        # Answered requests leave the heap when their time comes, or here when they are most of it: they hold tensors.
        if len(self._deadlines) > self._compact_at:
            self._deadlines = [entry for entry in self._deadlines if not entry[2].done]
            heapq.heapify(self._deadlines)
            self._compact_at = max(1024, 2 * len(self._deadlines))
        self._sequence += 1
        heapq.heappush(self._deadlines, (when_ns, self._sequence, request))

    def _arm(self) -> None:
        """One timer for the earliest deadline, moved forward when an earlier one comes."""
        when_ns = self._deadlines[0][0]
        if self._deadline_timer is not None:
            if self._armed_ns <= when_ns:
                return
            self._deadline_timer.cancel()
        self._armed_ns = when_ns
        self._deadline_timer = self._loop.call_later(max(0.0, (when_ns - self._clock_ns()) / 1e9), self._expire)

    def _expire(self) -> None:
        self._deadline_timer = None
        now_ns = self._clock_ns()
        heap = self._deadlines
        while heap and (heap[0][2].done or heap[0][0] <= now_ns):
            when_ns, _, request = heapq.heappop(heap)
            if not request.done and (not request.started_ns or when_ns == request.deadline_ns):
                self._expired(request)
        if heap:
            self._arm()

    def _expired(self, request: InferenceRequest) -> None:
        waiting = self._queue.remove(request)
        self._metrics.count_expired("queue" if waiting else "compute")
        where = "in the queue" if waiting else "while the model was running"
        request.fail(DeadlineExceeded(f"the request's time ran out {where}"))

    def _overloaded(self) -> Overloaded:
        """The refusal, with whole seconds until what waits now should be done at the observed rate."""
        rows = self._queue.rows
        retry_after_s = max(1, math.ceil(rows * self._ns_per_row / len(self._instances) / 1e9))
        return Overloaded(
            f"the queue is full: {rows} rows wait, {self._queue.max_rows} are allowed", retry_after_s=retry_after_s
        )

    @property
    def queue_rows(self) -> int:
        """Rows waiting now."""
        return self._queue.rows

    @property
    def mode(self) -> str:
        """Where batches run: "inline", at least the small ones, or "thread"."""
        return "inline" if self._instances[0].inline_rows else "thread"

    @property
    def wedged(self) -> bool:
        """Whether every instance runs beyond its compute timeout."""
        return len(self._wedged) == len(self._instances)

    def statistics(self) -> dict[str, int]:
        """Where the batcher stands: rows waiting, batches running, instances idle and wedged."""
        return {
            "queue_rows": self._queue.rows,
            "background_rows": self._background.rows,
            "running_batches": len(self._instances) - len(self._idle),
            "idle_instances": len(self._idle),
            "wedged_instances": len(self._wedged),
        }

    def close(self) -> None:
        """Stop the instances after the batch in hand; what still waits is answered with ``ModelNotReady``."""
        self.stop_background()
        _refuse_waiting(self._queue, ModelNotReady("the model is being unloaded", retry_after_s=1))
        for instance in self._instances:
            instance.close()

    def __repr__(self) -> str:
        figures = " ".join(f"{name}={value}" for name, value in self.statistics().items())
        return f"<Batcher {self.mode} {figures}>"


def _refuse_waiting(queue: BatchQueue, error: InferdError) -> None:
    while (batch := queue.take(FAR_FUTURE_NS)) is not None:
        for request in batch.requests:
            request.fail(error)
