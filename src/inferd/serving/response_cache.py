"""Answers of one version that are given again: bounded in bytes and age, computed once for those who ask at once."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from inferd.core.errors import Cancelled
from inferd.core.messages import InferenceRequest
from inferd.core.tensors import held_bytes
from inferd.telemetry.metrics import VersionMetrics

Outputs = Mapping[str, np.ndarray]
Forward = Callable[[InferenceRequest], None]
_ENTRY_BYTES = 256


class _Entry(NamedTuple):
    outputs: Outputs
    size_bytes: int
    until_s: float


@dataclass(slots=True)
class _Flight:
    """One computation, and those who wait for it."""

    request: InferenceRequest
    callers: list[InferenceRequest]


class ResponseCache:
    """The cache of one version; it ends with it. Used on the loop's thread only.

    At most ``max_bytes`` of outputs are kept, the least recently used go first; ``ttl_s`` 0 means that they do not age.
    ``last_hit_s`` is when it last answered. A request with a deadline is computed for itself, so that nobody's deadline
    is another's.
    """

    def __init__(
        self,
        metrics: VersionMetrics,
        *,
        max_bytes: int,
        ttl_s: float = 0.0,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s or float("inf")
        self._monotonic_s = monotonic_s
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._flights: dict[bytes, _Flight] = {}
        self.held_bytes = 0
        self.last_hit_s = 0.0

    def submit(self, request: InferenceRequest, forward: Forward) -> None:
        """Answer ``request`` from the cache, with others who wait for the same, or by ``forward``; a request that is
        refused raises what ``forward`` raises."""
        key = _key(request)
        entry = self._fresh(key)
        if entry is not None:
            self._metrics.count_cached("hit")
            request.complete(entry.outputs)
            return
        if request.deadline_ns:
            self._metrics.count_cached("miss")
            request.on_done = partial(self._keep_and_tell, key, request.on_done)
            forward(request)
            return
        flight = self._flights.get(key)
        if flight is not None:
            self._metrics.count_cached("shared")
            flight.callers.append(request)
        else:
            self._metrics.count_cached("miss")
            flight = self._take_off(key, request, forward)
        request.on_cancel = partial(self._leave, flight)

    def _take_off(self, key: bytes, caller: InferenceRequest, forward: Forward) -> _Flight:
        request = InferenceRequest(
            caller.inputs, wanted=caller.wanted, parameters=caller.parameters, signature=caller.signature
        )
        request.received_ns, request.request_id = caller.received_ns, caller.request_id
        request.rows, request.key = caller.rows, caller.key
        flight = self._flights[key] = _Flight(request, [caller])
        request.on_done = partial(self._land, key, flight)
        try:
            forward(request)
        except BaseException:
            del self._flights[key]
            raise
        return flight

    def _land(self, key: bytes, flight: _Flight, request: InferenceRequest) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if request.outputs is not None:
            self._keep(key, request.outputs)
        for caller in flight.callers:
            for stamp in ("queued_ns", "started_ns", "executing_ns", "computed_ns", "batch_rows"):
                setattr(caller, stamp, getattr(request, stamp))
            if request.outputs is not None:
                caller.complete(request.outputs)
            else:
                caller.fail(request.error or Cancelled("the request was given up"))

    def _leave(self, flight: _Flight, caller: InferenceRequest) -> None:
        """A caller has left; the last one takes the computation along."""
        if all(each.done or each is caller for each in flight.callers):
            flight.request.cancel()

    def _keep_and_tell(self, key: bytes, tell: Forward, request: InferenceRequest) -> None:
        if request.outputs is not None:
            self._keep(key, request.outputs)
        tell(request)

    def _fresh(self, key: bytes) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        now_s = self._monotonic_s()
        if entry.until_s <= now_s:
            self._drop(key)
            return None
        self.last_hit_s = now_s
        self._entries.move_to_end(key)
        return entry

    def _keep(self, key: bytes, outputs: Outputs) -> None:
        # An output may be a row of a batch, which would be kept whole.
        copies = {name: np.array(array) for name, array in outputs.items()}
        size_bytes = _ENTRY_BYTES + sum(map(held_bytes, copies.values()))
        if size_bytes > self._max_bytes:
            return
        if key in self._entries:
            self._drop(key)
        self._entries[key] = _Entry(copies, size_bytes, self._monotonic_s() + self._ttl_s)
        self.held_bytes += size_bytes
        while self.held_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: bytes) -> None:
        self.held_bytes -= self._entries.pop(key).size_bytes


def _key(request: InferenceRequest) -> bytes:
    """What decides the answer of one version: inputs with names, types and shapes, and what else the request asks."""
    total = blake2b(repr((request.key, request.wanted, request.signature)).encode(), digest_size=20)
    for name in sorted(request.inputs):
        array = request.inputs[name]
        total.update(f"\0{name}\0{array.dtype}{array.shape}\0".encode())
        if array.dtype == object:
            for item in array.ravel().tolist():
                data = item if isinstance(item, bytes) else str(item).encode()
                total.update(b"%d:" % len(data))
                total.update(data)
        else:
            total.update(np.ascontiguousarray(array).view(np.uint8).data)
    return total.digest()
