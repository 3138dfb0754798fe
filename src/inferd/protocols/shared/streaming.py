"""A request with any number of responses: route, decode, submit; at the end release and observe. Not a hot path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic_ns
from typing import TypeVar

from inferd.abc import Exchange, Target
from inferd.core.errors import InferdError
from inferd.core.messages import InferenceRequest
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.endpoint import set_deadline
from inferd.serving.responses import Responses
from inferd.serving.servable import Servable, Ticket

Form = TypeVar("Form")


@contextmanager
def answering(
    context: ProtocolContext,
    protocol: str,
    target: Target,
    exchange: Exchange,
    decode: Callable[[Servable], tuple[InferenceRequest, Form]],
) -> Iterator[tuple[Responses, Form, Servable]]:
    """The responses to what ``decode`` reads for the version that answers, and how it says they are to be written.

    Raises what routing, ``decode`` and submitting raise. What still runs at the end of the block is cancelled.
    """
    try:
        ticket = context.engine.route(target, exchange)
    except InferdError as error:
        context.metrics.count_unrouted(protocol, error.code.value.lower())
        raise
    responses = Responses(context.engine, ticket, context.loop)
    outcome = "ok"
    try:
        request, form = decode(ticket.servable)
        request.received_ns = exchange.received_ns
        request.request_id = exchange.request_id
        set_deadline(request, exchange)
        responses.start(request, exchange)
        yield responses, form, ticket.servable
    except (asyncio.CancelledError, GeneratorExit):
        outcome = "cancelled"
        raise
    except Exception as error:
        outcome = error.code.value.lower() if isinstance(error, InferdError) else "internal"
        raise
    finally:
        responses.close()
        _observe(protocol, ticket, responses.request, outcome, monotonic_ns() - exchange.received_ns)


def _observe(protocol: str, ticket: Ticket, request: InferenceRequest | None, outcome: str, total_ns: int) -> None:
    queued_ns = batched_ns = 0
    if request is not None and request.executing_ns:
        queued_ns = request.started_ns - request.queued_ns
        batched_ns = request.executing_ns - request.started_ns
    ticket.servable.metrics.observe_request(protocol, outcome, total_ns, queued_ns, batched_ns, 0)
    if ticket.observer is not None:
        ticket.observer.answered(outcome, total_ns, None)
