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
from inferd.experiments.bandits.chooser import Choice, Chooser
from inferd.experiments.definition import Experiment
from inferd.experiments.events import Exposure, Put, hash_unit
from inferd.experiments.gist import NOTHING, gist
from inferd.experiments.position import UNSTARTED, Position, at_position, learned_at
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

    def __init__(
        self, experiment: Experiment, put: Put, shadows: Shadows | None = None, position: Position = UNSTARTED
    ) -> None:
        self.shadows = shadows
        self.assigned: Counter[str] = Counter()
        self.fallbacks: Counter[str] = Counter()
        self.unassigned: Counter[str] = Counter()
        self._put = put
        self.assign_by(experiment, position)
        self._unit_of = unit_reader(experiment.unit)
        self._needs_headers = any(rule.header for rule in experiment.targeting)
        self._needs_attributes = any(rule.attribute for rule in experiment.targeting)

    def assign_by(self, experiment: Experiment, position: Position) -> None:
        """From the next request on, assign as ``experiment``, which differs from this one in coverage and weights at
        most, does at ``position``."""
        self.experiment = at_position(experiment, position)
        self._assigner = Assigner(self.experiment)
        self._chooser = None if experiment.bandit is None else Chooser(experiment, learned_at(experiment, position))
        arms = [
            Arm(experiment, Choice(variant, share))
            for variant, share in zip(self.experiment.variants, self.experiment.shares, strict=True)
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
        if assignment.variant is None:
            self.unassigned[assignment.reason] += 1
            return None
        arm = self._arms[assignment.variant.name]
        if self.experiment.mode == "shadow":
            return self._unexposed(exchange, arm, table)
        choice, prediction_id, whom = arm.choice, new_prediction_id(), unit or exchange.request_id
        if self._chooser is not None:
            # Not by the request's own id: a caller may send one again, and a bandit must draw anew.
            whom = unit or prediction_id
            choice = self._chooser.choose(exchange, whom)
            arm = self._arms[choice.variant.name]
        served = arm
        found = find_ticket(choice.variant.target, table)
        if found is None:
            served = self._arms[self.experiment.control.name]
            found = find_ticket(self.experiment.control.target, table)
            if found is None:
                return None
            self.fallbacks[arm.name] += 1
        self.assigned[arm.name] += 1
        head = b"%binferd-prediction-id: %b\r\n" % (served.heads[bool(unit)], prediction_id.encode())
        observer: Observer | None = FollowedRequest(
            self._put, arm, choice, whom, bool(unit), prediction_id, served is arm
        )
        if self.shadows is not None:
            observer = self.shadows.follow(exchange.request_id, prediction_id, served.choice.variant, observer)
        return Ticket(found.servable, head, observer)

    def _unexposed(self, exchange: Exchange, arm: Arm, table: Table) -> Ticket | None:
        """The ticket that everyone gets, or the same with shadows."""
        control = arm.choice.variant
        found = find_ticket(control.target, table)
        if found is None:
            return None
        self.assigned[arm.name] += 1
        observer = self.shadows.follow(exchange.request_id, "", control) if self.shadows is not None else None
        return found if observer is None else Ticket(found.servable, found.head, observer)

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
    """A variant made ready for requests. ``choice`` is that of units that are assigned to it, ``heads`` are the header
    lines of its answers, for units that are not sticky and for those that are."""

    __slots__ = ("choice", "experiment", "heads", "name", "salt")

    def __init__(self, experiment: Experiment, choice: Choice) -> None:
        self.experiment = experiment.id
        self.salt = experiment.salt
        self.name = choice.variant.name
        self.choice = choice
        head = f"inferd-experiment: {experiment.id}\r\ninferd-variant: {self.name}\r\ninferd-sticky: "
        self.heads = (f"{head}false\r\n".encode(), f"{head}true\r\n".encode())


class FollowedRequest:
    """An ``Observer``: logs the exposure of one request to ``arm`` when it is answered. Unless ``got`` it, control
    answers in its place."""

    __slots__ = ("_arm", "_choice", "_got", "_prediction_id", "_put", "_sticky", "_unit")

    def __init__(
        self, put: Put, arm: Arm, choice: Choice, unit: str, sticky: bool, prediction_id: str, got: bool
    ) -> None:
        self._put = put
        self._arm = arm
        self._choice = choice
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
                self._choice.propensity,
                label,
                score,
                self._choice.context,
            )
        )
