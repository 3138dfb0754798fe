"""Shadows: a request that was answered runs again on another version, in nobody's way, and the answers are compared.

Hot where requests are shadowed: benchmarks/hot_path.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from time import monotonic_ns, time_ns
from typing import NamedTuple

import numpy as np

from inferd.core.difference import Difference, Outputs, compare_answers, unequal_rows
from inferd.core.errors import Cancelled, InferdError, ModelNotReady, Overloaded
from inferd.core.messages import InferenceRequest
from inferd.experiments.assignment import BUCKETS, bucket
from inferd.experiments.definition import Experiment, Shadow, Variant
from inferd.experiments.disagreement import MAX_CHARACTERS, describe
from inferd.experiments.events import SHED, UNAVAILABLE, Put, ShadowOutcome
from inferd.experiments.prediction_id import new_prediction_id
from inferd.experiments.target import find_ticket
from inferd.serving.engine import Engine
from inferd.serving.policy import Observer

logger = logging.getLogger("inferd.experiments")

EQUAL, DIFFERENT, FAILED = "equal", "different", "failed"
RESULTS = (EQUAL, DIFFERENT, FAILED, SHED, UNAVAILABLE)
"""What comes of a shadow."""
TALLY_S = 1.0
"""How long what was not run is counted before the count is logged."""


class _Pair(NamedTuple):
    """Whom a shadow's answer is about, and where it comes from."""

    variant: str
    target: str


class Shadows:
    """The shadows of one experiment. Used on the loop's thread; answers are compared on ``comparer``'s.

    A request runs again once it is answered, when all others of its batch are too, on whatever version its shadow's
    target then means. Of each variant at most ``max_concurrency`` run or are compared; what finds no room is shed, at
    once. ``counts`` counts by variant and result.
    """

    def __init__(self, experiment: Experiment, settings: Shadow, engine: Engine, put: Put, comparer: Executor) -> None:
        control, treated = experiment.variants[0], experiment.variants[1:]
        self._experiment = experiment.id
        self._settings = settings
        self._engine = engine
        self._put = put
        self._comparer = comparer
        self._salt = f"{experiment.salt}:shadow"
        self._sampled = round(settings.sample * BUCKETS)
        self._control_answers = experiment.mode == "shadow"
        self._pairs: Mapping[str, Sequence[_Pair]] = {
            variant.name: [_Pair(variant.name, control.target)] for variant in treated
        }
        if self._control_answers:
            self._pairs = {control.name: [_Pair(variant.name, variant.target) for variant in treated]}
        self.counts: dict[str, Counter[str]] = {variant.name: Counter() for variant in treated}
        self.running: Counter[str] = Counter()
        self._kept: Counter[str] = Counter()
        self._waiting: list[_ShadowRequest] = []
        self._not_run: Counter[tuple[str, str]] = Counter()
        self._tallying = False

    def follow(
        self, request_id: str, prediction_id: str, answering: Variant, then: Observer | None = None
    ) -> Observer | None:
        """What to observe a request with that ``answering`` answers: ``then``, and what runs its shadows if it has any
        and is one of the sample, which its id decides. ``prediction_id`` is "" where nobody is exposed."""
        pairs = self._pairs.get(answering.name)
        if not pairs or (self._sampled < BUCKETS and bucket(self._salt, request_id) >= self._sampled):
            return then
        return ShadowedRequest(self, prediction_id, pairs, then)

    def run(self, request: InferenceRequest, prediction_id: str, pairs: Sequence[_Pair]) -> None:
        """Have ``request``, which is answered, run again for each of ``pairs``, or shed it. Without a ``prediction_id``
        it gets one of its own."""
        before = len(self._waiting)
        for pair in pairs:
            if self.running[pair.variant] >= self._settings.max_concurrency:
                self._count_not_run(pair.variant, SHED)
            else:
                self.running[pair.variant] += 1
                prediction_id = prediction_id or new_prediction_id()
                self._waiting.append(_ShadowRequest(request, prediction_id, pair))
        if self._waiting and not before:
            asyncio.get_running_loop().call_soon(self._start)

    def tally(self) -> None:
        """Log what was not run since the last time."""
        self._tallying = False
        for (variant, result), requests in self._not_run.items():
            self._put(self._outcome(new_prediction_id(), variant, result, requests=requests))
        self._not_run.clear()

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, []
        for shadow in waiting:
            self._submit(shadow)

    def _submit(self, shadow: _ShadowRequest) -> None:
        ticket = find_ticket(shadow.pair.target, self._engine.table)
        try:
            if ticket is None:
                raise ModelNotReady(f"nothing that is ready answers to {shadow.pair.target}")
            self._engine.submit_background(ticket, shadow.again(partial(self._answered, shadow)))
        except InferdError as error:
            self._fail(shadow, error)

    def _answered(self, shadow: _ShadowRequest, request: InferenceRequest) -> None:
        """The callback of the request that ran again."""
        if request.outputs is None:
            self._fail(shadow, request.error or Cancelled("the request was given up"))
            return
        keep = self._kept[shadow.pair.variant] < self._settings.keep
        loop = asyncio.get_running_loop()
        try:
            self._comparer.submit(self._compare, loop, shadow, request, keep)
        except RuntimeError:  # the server ends, and compares no more
            self.running[shadow.pair.variant] -= 1

    def _fail(self, shadow: _ShadowRequest, error: InferdError) -> None:
        variant = shadow.pair.variant
        if isinstance(error, Overloaded | ModelNotReady):
            self.running[variant] -= 1
            self._count_not_run(variant, SHED if isinstance(error, Overloaded) else UNAVAILABLE)
        else:
            self._settle(FAILED, self._outcome(shadow.prediction_id, variant, error.code.value.lower()))

    def _compare(
        self, loop: asyncio.AbstractEventLoop, shadow: _ShadowRequest, request: InferenceRequest, keep: bool
    ) -> None:
        """In the comparer's thread."""
        try:
            event = self._compared(shadow, request.outputs or {}, _model_us(request), keep)
            result = EQUAL if event.difference is not None and event.difference.equal else DIFFERENT
        # Whatever a model's arrays hold, the budget must come back.
        except Exception:
            logger.exception("two answers could not be compared", extra={"request_id": shadow.request_id})
            event, result = self._outcome(shadow.prediction_id, shadow.pair.variant, "incomparable"), FAILED
        try:
            loop.call_soon_threadsafe(self._settle, result, event)
        except RuntimeError:  # the loop has closed: nobody is left to tell
            return

    def _compared(self, shadow: _ShadowRequest, outputs: Outputs, model_us: int | None, keep: bool) -> ShadowOutcome:
        settings = self._settings
        control, variant = shadow.outputs, outputs
        control_us, variant_us = shadow.model_us, model_us
        if not self._control_answers:
            control, variant, control_us, variant_us = variant, control, variant_us, control_us
        found = compare_answers(control, variant, rtol=settings.rtol, atol=settings.atol, top_k=settings.top_k)
        return self._outcome(
            shadow.prediction_id,
            shadow.pair.variant,
            "ok",
            difference=found,
            control_us=control_us,
            variant_us=variant_us,
            details=self._details(shadow, control, variant, found) if keep and not found.equal else "",
        )

    def _details(self, shadow: _ShadowRequest, control: Outputs, variant: Outputs, found: Difference) -> str:
        settings = self._settings
        return describe(
            {"inputs": shadow.inputs, "control": control, "variant": variant},
            unequal_rows(control, variant, rtol=settings.rtol, atol=settings.atol),
            settings.redact,
            request_id=shadow.request_id,
            # It quotes a value of an output.
            reason="" if any(name in settings.redact for name in control) else found.reason[:MAX_CHARACTERS],
        )

    def _settle(self, result: str, event: ShadowOutcome) -> None:
        """One shadow is over."""
        self.running[event.variant] -= 1
        self.counts[event.variant][result] += 1
        self._kept[event.variant] += bool(event.details)
        self._put(event)

    def _count_not_run(self, variant: str, result: str) -> None:
        self.counts[variant][result] += 1
        self._not_run[variant, result] += 1
        if not self._tallying:
            self._tallying = True
            asyncio.get_running_loop().call_later(TALLY_S, self.tally)

    def _outcome(
        self,
        prediction_id: str,
        variant: str,
        outcome: str,
        *,
        requests: int = 1,
        difference: Difference | None = None,
        control_us: int | None = None,
        variant_us: int | None = None,
        details: str = "",
    ) -> ShadowOutcome:
        return ShadowOutcome(
            prediction_id,
            self._experiment,
            variant,
            time_ns() // 1_000_000,
            outcome,
            requests,
            difference,
            control_us,
            variant_us,
            details,
            self._settings.keep,
        )


class ShadowedRequest:
    """An ``Observer``: has the shadows run once the request is both submitted and answered, in whichever order."""

    __slots__ = ("_ok", "_pairs", "_prediction_id", "_request", "_shadows", "_then")

    def __init__(self, shadows: Shadows, prediction_id: str, pairs: Sequence[_Pair], then: Observer | None) -> None:
        self._shadows = shadows
        self._prediction_id = prediction_id
        self._pairs = pairs
        self._then = then
        self._request: InferenceRequest | None = None
        self._ok = False

    def submitted(self, request: InferenceRequest) -> None:
        """Remember it. One that a response cache knew is answered by now."""
        if self._then is not None:
            self._then.submitted(request)
        self._request = request
        self._run()

    def answered(self, outcome: str, total_ns: int, outputs: Mapping[str, np.ndarray] | None) -> None:
        """Run the shadows of a good answer."""
        if self._then is not None:
            self._then.answered(outcome, total_ns, outputs)
        self._ok = outcome == "ok"
        self._run()

    def _run(self) -> None:
        """A stream of responses leaves no outputs behind, and has no shadows."""
        if self._ok and self._request is not None and self._request.outputs:
            self._shadows.run(self._request, self._prediction_id, self._pairs)


class _ShadowRequest:
    """What is needed of a request that was answered to run it again and compare; not its exchange, nor its batch."""

    __slots__ = (
        "inputs",
        "model_us",
        "outputs",
        "pair",
        "parameters",
        "prediction_id",
        "request_id",
        "signature",
    )

    def __init__(self, request: InferenceRequest, prediction_id: str, pair: _Pair) -> None:
        self.prediction_id = prediction_id
        self.pair = pair
        self.request_id = request.request_id
        self.inputs = request.inputs
        self.parameters = request.parameters
        self.signature = request.signature
        self.outputs: Outputs = request.outputs or {}
        self.model_us = _model_us(request)

    def again(self, on_done: Callable[[InferenceRequest], None]) -> InferenceRequest:
        """A request for the outputs that were answered; they are held until it is compared."""
        self.outputs = {name: _own(array) for name, array in self.outputs.items()}
        request = InferenceRequest(
            self.inputs,
            wanted=tuple(self.outputs),
            parameters=self.parameters,
            signature=self.signature,
            received_ns=monotonic_ns(),
            request_id=self.request_id,
        )
        request.on_done = on_done
        return request


def _own(array: np.ndarray) -> np.ndarray:
    """A copy of what is a small part of something larger, such as a row of a batch, which would be held whole."""
    base = array.base
    return array.copy() if isinstance(base, np.ndarray) and base.nbytes > 2 * array.nbytes else array


def _model_us(request: InferenceRequest) -> int | None:
    """The time of the batch that the request was in; None for an answer that was known."""
    return (request.computed_ns - request.executing_ns) // 1000 if request.executing_ns else None
