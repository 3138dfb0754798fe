"""Keep a sample of the requests to a model, and what came of them, in a ring bounded by number and bytes.

Hot for a model that is captured: 0.2 µs for a request that is not kept. For any other an endpoint tests one attribute.
"""

from __future__ import annotations

import logging
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from inferd.abc import Exchange
from inferd.core.errors import Cancelled
from inferd.core.messages import NO_PARAMETERS, InferenceRequest
from inferd.core.tensors import Tensors, datatype_name, held_bytes

if TYPE_CHECKING:
    from inferd.serving.servable import Servable

logger = logging.getLogger("inferd.serving")

KEPT = "kept"
OWN_BYTES = 1024
"""What a kept request counts for besides its tensors and parameters."""
_MAX_REASON = 300


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """``sample`` is the share of requests to keep. Of the tensors named in ``redact``, inputs are kept as zeros of the
    same shape (BYTES as empty texts) and outputs not at all; those in ``leave_out`` are not kept either way."""

    sample: float = 1.0
    max_requests: int = 1000
    max_bytes: int = 64 << 20
    redact: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    parameters: bool = True

    @property
    def hides(self) -> bool:
        """Whether anything is kept from who reads the capture."""
        return bool(self.redact or self.leave_out or not self.parameters)


@dataclass(slots=True)
class CapturedRequest:
    """One request as the model was given it, and what came of it. ``inputs`` and ``outputs`` are copies.

    ``outcome`` is "ok", or the neutral error code in lower case, with a ``reason`` and without outputs. ``wanted`` and
    ``signature`` are as asked: empty for the model's own choice. ``unit`` is whom an experiment keeps together, ""
    where the capture or the request names nobody. ``at_ms`` counts from 1970. Times are 0 for what did not happen:
    ``compute_ns`` is the batch's (of ``batch_rows`` rows), ``total_ns`` runs from the first byte to the answer, before
    it is encoded.
    """

    request_id: str
    at_ms: int
    version: int
    outcome: str
    inputs: Tensors
    outputs: Tensors = field(default_factory=dict)
    reason: str = ""
    signature: str = ""
    wanted: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    unit: str = ""
    rows: int = 1
    batch_rows: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    total_ns: int = 0


class Capture:
    """The ring of one model, through all its versions. Used on the loop's thread only.

    It takes what was accepted: what cannot be decoded, does not fit the signature or finds the queue full never gets so
    far. Streams of several responses are not taken. ``seen`` counts the requests there were, ``kept`` those that were
    put into the ring, ``dropped`` by reason what was put there and had to make room ("ring"), was larger than the ring
    ("too_large"), or could not be copied ("failed"). ``totals`` counts the last two alike, for all captures of a model.
    """

    def __init__(
        self,
        settings: CaptureSettings,
        *,
        unit_of: Callable[[Exchange], str] | None = None,
        chance: Callable[[], float] = random.random,
        totals: Counter[str] | None = None,
    ) -> None:
        self.settings = settings
        self.seen = 0
        self.kept = 0
        self.dropped: Counter[str] = Counter()
        self.held_bytes = 0
        self._totals = Counter() if totals is None else totals
        self._unit_of = unit_of
        self._chance = chance
        self._ring: deque[tuple[CapturedRequest, int]] = deque()
        self._ended = False

    def follow(self, request: InferenceRequest, exchange: Exchange, servable: Servable) -> None:
        """Keep ``request`` when it is answered, if chance wills it. Called before it is submitted."""
        self.seen += 1
        if self._chance() < self.settings.sample:
            wanted = () if request.wanted is servable.default_outputs else request.wanted
            request.on_done = partial(self._answered, exchange, servable.version, wanted, request.on_done)

    def end(self) -> None:
        """Keep nothing more, also of what is followed already."""
        self._ended = True

    def snapshot(self) -> list[CapturedRequest]:
        """What the ring holds, the oldest first. Nothing of it is changed later."""
        return [request for request, _ in self._ring]

    def __len__(self) -> int:
        return len(self._ring)

    def _answered(
        self,
        exchange: Exchange,
        version: int,
        wanted: tuple[str, ...],
        tell: Callable[[InferenceRequest], None],
        request: InferenceRequest,
    ) -> None:
        """The request's callback. The copy comes first: a caller may reuse shared memory once it has its answer."""
        try:
            if not self._ended:
                self._keep(request, exchange, version, wanted)
        except Exception:  # whatever is wrong with a copy, the caller gets the answer
            self._drop("failed")
            logger.exception("a request could not be captured", extra={"request_id": request.request_id})
        finally:
            tell(request)

    def _keep(self, request: InferenceRequest, exchange: Exchange, version: int, wanted: tuple[str, ...]) -> None:
        settings = self.settings
        outputs = request.outputs or {}
        parameters = request.parameters if settings.parameters else NO_PARAMETERS
        tensors = (*request.inputs.values(), *outputs.values())
        size_bytes = OWN_BYTES + sum(map(held_bytes, tensors))
        if parameters:
            size_bytes += len(orjson.dumps(parameters, option=orjson.OPT_SERIALIZE_NUMPY))
        if size_bytes > settings.max_bytes:
            self._drop("too_large")
            return
        taken = self._taken(request, exchange, version, wanted, parameters)
        self._ring.append((taken, size_bytes))
        self.kept += 1
        self._totals[KEPT] += 1
        self.held_bytes += size_bytes
        while self.held_bytes > settings.max_bytes or len(self._ring) > settings.max_requests:
            self.held_bytes -= self._ring.popleft()[1]
            self._drop("ring")

    def _drop(self, reason: str) -> None:
        self.dropped[reason] += 1
        self._totals[reason] += 1

    def _taken(
        self,
        request: InferenceRequest,
        exchange: Exchange,
        version: int,
        wanted: tuple[str, ...],
        parameters: Mapping[str, Any],
    ) -> CapturedRequest:
        settings, outputs = self.settings, request.outputs or {}
        error = None if request.outputs is not None else request.error or Cancelled("the request was given up")
        return CapturedRequest(
            request.request_id,
            time_ns() // 1_000_000,
            version,
            "ok" if error is None else error.code.value.lower(),
            {
                name: self._input(name, array)
                for name, array in request.inputs.items()
                if name not in settings.leave_out
            },
            {
                name: _copy(array)
                for name, array in outputs.items()
                if name not in (*settings.redact, *settings.leave_out)
            },
            "" if error is None or settings.hides else error.message[:_MAX_REASON],
            request.signature,
            wanted,
            parameters,
            self._unit_of(exchange) if self._unit_of is not None else "",
            request.rows,
            request.batch_rows,
            max(request.started_ns - request.queued_ns, 0),
            max(request.computed_ns - request.executing_ns, 0),
            monotonic_ns() - request.received_ns,
        )

    def _input(self, name: str, array: np.ndarray) -> np.ndarray:
        if name not in self.settings.redact:
            return _copy(array)
        return np.full(array.shape, b"", object) if array.dtype == object else np.zeros(array.shape, array.dtype)


def _copy(array: np.ndarray) -> np.ndarray:
    """A copy, because an array may be a row of a batch, or memory that its caller shares. Raises ``ValueError`` for
    what no protocol can express."""
    datatype_name(array.dtype)
    return np.array(array, order="C")
