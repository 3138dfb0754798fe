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

    def assign_by(self, experiment: Experiment) -> None:
        """From the next request on, assign by the coverage and weights of ``experiment``, else the same as this one."""
        self.experiment = experiment
        self._assigner = Assigner(experiment)
        arms = [
            Arm(experiment, variant, share)
            for variant, share in zip(experiment.variants, experiment.shares, strict=True)
        ]
        self._arms = {arm.name: arm for arm in arms}

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
        heads = self._arms[served.name].heads
        head = b"%binferd-prediction-id: %b\r\n" % (heads[bool(unit)], prediction_id.encode())
        observer: Observer | None = FollowedRequest(
            self._put,
            self._arms[variant.name],
            unit or exchange.request_id,
            bool(unit),
            prediction_id,
            served is variant,
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


class Arm:
    """A variant made ready for requests. ``heads`` are the header lines of its answers, for units that are not sticky
    and for those that are."""

    __slots__ = ("experiment", "heads", "name", "propensity", "salt")

    def __init__(self, experiment: Experiment, variant: Variant, propensity: float) -> None:
        self.experiment = experiment.id
        self.salt = experiment.salt
        self.name = variant.name
        self.propensity = propensity
        head = f"inferd-experiment: {experiment.id}\r\ninferd-variant: {variant.name}\r\ninferd-sticky: "
        self.heads = (f"{head}false\r\n".encode(), f"{head}true\r\n".encode())


class FollowedRequest:
    """An ``Observer``: logs the exposure of one request to ``arm`` when it is answered. Unless ``got`` it, control
    answers in its place."""

    __slots__ = ("_arm", "_got", "_prediction_id", "_put", "_sticky", "_unit")

    def __init__(self, put: Put, arm: Arm, unit: str, sticky: bool, prediction_id: str, got: bool) -> None:
        self._put = put
        self._arm = arm
        self._unit = unit
        self._sticky = sticky
        self._prediction_id = prediction_id
        self._got = got

    def submitted(self, request: InferenceRequest) -> None:
        """Nothing is logged before the answer."""

    def answered(self, outcome: str, total_ns: int, outputs: Mapping[str, np.ndarray] | None) -> None:
        """Log the exposure."""
        arm = self._arm
        label, score = NOTHING if outputs is None else gist(outputs)
        self._put(
            Exposure(
                self._prediction_id,
                arm.experiment,
                arm.name,
                hash_unit(arm.salt, self._unit),
                self._sticky,
                time_ns() // 1_000_000,
                total_ns // 1000,
                outcome if self._got else "fallback",
                arm.propensity,
                label,
                score,
            )
        )
