"""Experiments on live traffic: each request to a model gets a variant, once, and is followed to its answer.

Hot where a model has an experiment: benchmarks/hot_path.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from time import time_ns

import numpy as np

from inferd.abc import Exchange, Target
from inferd.core.messages import InferenceRequest
from inferd.experiments.assignment import Assigner
from inferd.experiments.definition import Experiment, Variant
from inferd.experiments.events import Exposure, Put, hash_unit
from inferd.experiments.gist import NOTHING, gist
from inferd.experiments.prediction_id import new_prediction_id
from inferd.experiments.shadows import Shadows
from inferd.experiments.target import find_ticket
from inferd.experiments.unit import parameters_of, unit_reader
from inferd.serving.policy import Observer
from inferd.serving.servable import Ticket
from inferd.serving.table import Table


class LiveExperiment:
    """One experiment, ready to assign requests. ``put`` takes each exposure; ``shadows`` runs requests a second time.

    ``assigned`` counts requests by variant; ``fallbacks`` those whose variant had no version ready: they got the
    control, and are logged with the outcome "fallback", so that no analysis takes them for either; ``unassigned``
    counts by reason. In mode ``shadow`` nobody is exposed to anything: control answers, and its answers carry no word
    of an experiment.
    """

    def __init__(self, experiment: Experiment, put: Put, shadows: Shadows | None = None) -> None:
        self.shadows = shadows
        self.assigned: Counter[str] = Counter()
        self.fallbacks: Counter[str] = Counter()
        self.unassigned: Counter[str] = Counter()
        self._put = put
        self.assign_by(experiment)
        self._unit_of = unit_reader(experiment.unit)
        self._needs_headers = any(rule.header for rule in experiment.targeting)
        self._needs_attributes = any(rule.attribute for rule in experiment.targeting)
        self._heads = {
            variant.name: f"inferd-experiment: {experiment.id}\r\ninferd-variant: {variant.name}\r\n".encode()
            for variant in experiment.variants
        }

    def assign_by(self, experiment: Experiment) -> None:
        """From the next request on, assign by the coverage and weights of ``experiment``, else the same as this one."""
        self.experiment = experiment
        self._assigner = Assigner(experiment)
        names = (variant.name for variant in experiment.variants)
        self._shares = dict(zip(names, experiment.shares, strict=True))

    def tally(self) -> None:
        """Log what is counted and not logged yet."""
        if self.shadows is not None:
            self.shadows.tally()

    def ticket(self, exchange: Exchange, table: Table) -> Ticket | None:
        """The ticket of the request's variant, or None when it takes no part or nothing is ready for it."""
        unit = self._unit_of(exchange)
        assignment = self._assigner.assign(unit or exchange.request_id, *self._context(exchange))
        variant = assignment.variant
        if variant is None:
            self.unassigned[assignment.reason] += 1
            return None
        found = find_ticket(variant.target, table)
        served = variant if found is not None else self.experiment.control
        if found is None:
            found = find_ticket(served.target, table)
            if found is None:
                return None
            self.fallbacks[variant.name] += 1
        self.assigned[variant.name] += 1
        if self.experiment.mode == "shadow":
            return self._unexposed(found, exchange, served)
        return self._exposed(found, exchange, unit, variant, served)

    def _unexposed(self, found: Ticket, exchange: Exchange, served: Variant) -> Ticket:
        """The ticket that everyone gets, or the same with shadows."""
        observer = self.shadows.follow(exchange.request_id, "", served) if self.shadows is not None else None
        return found if observer is None else Ticket(found.servable, found.head, observer)

    def _exposed(self, found: Ticket, exchange: Exchange, unit: str, variant: Variant, served: Variant) -> Ticket:
        prediction_id = new_prediction_id()
        head = b"%binferd-sticky: %b\r\ninferd-prediction-id: %b\r\n" % (
            self._heads[served.name],
            b"true" if unit else b"false",
            prediction_id.encode(),
        )
        observer: Observer | None = FollowedRequest(
            self._put,
            self.experiment,
            variant,
            unit or exchange.request_id,
            sticky=bool(unit),
            prediction_id=prediction_id,
            propensity=self._shares[variant.name],
            fell_back=served is not variant,
        )
        if self.shadows is not None:
            observer = self.shadows.follow(exchange.request_id, prediction_id, served, observer)
        return Ticket(found.servable, head, observer)

    def _context(self, exchange: Exchange) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Headers and attributes as targeting reads them; nothing is decoded for an experiment without it."""
        headers: Mapping[str, str] = {}
        attributes: Mapping[str, str] = {}
        if self._needs_headers:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in exchange.headers.items()}
        if self._needs_attributes:
            attributes = {name: str(value) for name, value in parameters_of(exchange).items()}
        return headers, attributes


class ModelExperiments:
    """The ``RoutingPolicy`` of one model: the first of its experiments that takes the request decides."""

    def __init__(self, target: Target, experiments: Sequence[LiveExperiment]) -> None:
        self._target = target
        self._experiments = tuple(experiments)

    def route(self, exchange: Exchange, table: Table) -> Ticket:
        """See ``RoutingPolicy``."""
        for experiment in self._experiments:
            ticket = experiment.ticket(exchange, table)
            if ticket is not None:
                return ticket
        usual = table.tickets.get(self._target)
        if usual is None:
            raise table.explain(self._target)
        return usual


class FollowedRequest:
    """An ``Observer``: logs the exposure of one request when it is answered."""

    __slots__ = ("_experiment", "_fell_back", "_prediction_id", "_propensity", "_put", "_sticky", "_unit", "_variant")

    def __init__(
        self,
        put: Put,
        experiment: Experiment,
        variant: Variant,
        unit: str,
        *,
        sticky: bool,
        prediction_id: str,
        propensity: float,
        fell_back: bool,
    ) -> None:
        self._put = put
        self._experiment = experiment
        self._variant = variant
        self._unit = unit
        self._sticky = sticky
        self._prediction_id = prediction_id
        self._propensity = propensity
        self._fell_back = fell_back

    def submitted(self, request: InferenceRequest) -> None:
        """Nothing is logged before the answer."""

    def answered(self, outcome: str, total_ns: int, outputs: Mapping[str, np.ndarray] | None) -> None:
        """Log the exposure."""
        experiment = self._experiment
        label, score = NOTHING if outputs is None else gist(outputs)
        self._put(
            Exposure(
                self._prediction_id,
                experiment.id,
                self._variant.name,
                hash_unit(experiment.salt, self._unit),
                self._sticky,
                time_ns() // 1_000_000,
                total_ns // 1000,
                "fallback" if self._fell_back else outcome,
                self._propensity,
                label,
                score,
            )
        )
