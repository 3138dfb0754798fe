"""The data plane's only door: route a target to a pinned version, submit a request to it.

Hot: benchmarks/run.py.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
import orjson

from inferd.abc import Exchange, Target
from inferd.core.errors import InferdError, InvalidRequest, ModelNotLoaded
from inferd.core.messages import InferenceRequest
from inferd.serving.policy import RoutingPolicy
from inferd.serving.servable import Servable, Ticket
from inferd.serving.table import Table


class LazyLoader(Protocol):
    """Loads versions when somebody asks for them. Used on the loop's thread."""

    def wake(self, model: str, version: int) -> None:
        """Begin to load a dormant version; nothing happens when that has begun."""
        ...

    def when_loaded(
        self, model: str, version: int, callback: Callable[[], None], since_ns: int
    ) -> Callable[[], None] | None:
        """Call ``callback`` once the version is loaded, has failed, or the caller who waits ``since_ns`` has waited too
        long; the answer cancels the call. None when callers do not wait, or this one may not any longer."""
        ...


class Engine:
    """Routes and submits, on the loop's thread, without locks: ``table`` is replaced whole by the repository,
    ``policies`` by whoever runs experiments."""

    def __init__(self) -> None:
        self.table = Table()
        self.loader: LazyLoader | None = None
        self.policies: Mapping[Target, RoutingPolicy] = {}

    def route(self, target: Target, exchange: Exchange | None = None) -> Ticket:
        """Pin the version that answers ``target``; the ticket must be released exactly once.

        Raises ``ModelNotFound``, ``VersionNotFound`` or ``ModelNotReady``.
        """
        if self.policies and exchange is not None and (policy := self.policies.get(target)) is not None:
            ticket: Ticket | None = policy.route(exchange, self.table)
        else:
            ticket = self.table.tickets.get(target)
        if ticket is None:
            raise self._missing(target)
        ticket.servable.inflight += 1
        return ticket

    def _missing(self, target: Target) -> InferdError:
        """Why ``target`` has no ticket. That somebody has asked begins the loading of what is loaded on a call."""
        error = self.table.explain(target)
        if isinstance(error, ModelNotLoaded) and self.loader is not None:
            self.loader.wake(error.model, error.version)
        return error

    def submit(self, ticket: Ticket, request: InferenceRequest) -> None:
        """Check ``request`` against the signature and hand it to the scheduler, which answers by its callback.

        Raises ``InvalidRequest``, ``Overloaded`` or ``ModelNotReady``; then the request was not taken.
        """
        servable = ticket.servable
        wanted = request.wanted
        if (wanted and wanted is not servable.default_outputs) or request.parameters or request.signature:
            _check_extras(servable, request)
        else:
            request.rows, request.key = servable.check(request.inputs)
            request.wanted = servable.default_outputs
        if not request.rows:
            request.complete(empty_outputs(servable, request))
            return
        if servable.cache is None:
            servable.batcher.submit(request)
        else:
            servable.cache.submit(request, servable.batcher.submit)
        if ticket.observer is not None:
            ticket.observer.submitted(request)

    def submit_background(self, ticket: Ticket, request: InferenceRequest) -> None:
        """Have ``request`` executed although nobody waits for it: after all that somebody waits for, past any response
        cache, without a part in the version's metrics. It holds the version until it is done.

        Raises as ``submit`` does; then the request was not taken.
        """
        servable = ticket.servable
        _check_extras(servable, request)
        request.on_done = partial(_let_go, servable, request.on_done)
        servable.batcher.submit_background(request)
        servable.inflight += 1
        servable.background += 1


def _let_go(servable: Servable, tell: Callable[[InferenceRequest], None], request: InferenceRequest) -> None:
    servable.background -= 1
    servable.release()
    tell(request)


def _check_extras(servable: Servable, request: InferenceRequest) -> None:
    """The check of a request that names outputs, parameters or a signature: they are part of its batch key."""
    check = servable.checks.get(request.signature) if request.signature else servable.check
    if check is None:
        known = ", ".join(servable.checks)
        raise InvalidRequest(f"no signature named {request.signature!r}; there are: {known}", got=request.signature)
    request.rows, shapes = check(request.inputs)
    outputs = (
        servable.signatures[request.signature].output_names if request.signature else servable.signature.output_names
    )
    for name in request.wanted:
        if name not in outputs:
            raise InvalidRequest(f"no output named {name!r}; there are: {', '.join(outputs)}", got=name)
    request.wanted = request.wanted or servable.default_outputs
    request.key = (shapes, request.signature, request.wanted, _canonical(request.parameters))


def _canonical(parameters: Mapping[str, Any]) -> Hashable:
    """Parameters as bytes that are equal for equal parameters."""
    try:
        return orjson.dumps(parameters, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise InvalidRequest(f"the parameters cannot be used: {error}") from error


def empty_outputs(servable: Servable, request: InferenceRequest) -> dict[str, np.ndarray]:
    """Outputs of a request with no rows: nothing is executed for it."""
    signature = servable.signatures[request.signature] if request.signature else servable.signature
    return {
        spec.name: np.empty((0, *(0 if size == -1 else size for size in spec.shape[1:])), spec.dtype)
        for spec in signature.outputs
        if not request.wanted or spec.name in request.wanted
    }
