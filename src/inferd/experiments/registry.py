"""All experiments of a server: which run, which cannot and why; it installs the running ones into the engine."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from inferd.abc import Target
from inferd.core.errors import ConfigError, Conflict, ExperimentNotFound
from inferd.core.schema import suggestion
from inferd.core.tensors import Signature
from inferd.experiments.definition import Experiment, Shadow
from inferd.experiments.definition_toml import read_experiment
from inferd.experiments.events import Put
from inferd.experiments.live import LiveExperiment, ModelExperiments
from inferd.experiments.position import UNSTARTED, Position
from inferd.experiments.shadows import Shadows
from inferd.experiments.target import find_ticket
from inferd.serving.engine import Engine
from inferd.serving.servable import Ticket
from inferd.serving.table import DEFAULT_LABEL

logger = logging.getLogger("inferd.experiments")

State = Literal["running", "stopped", "invalid", "archived", "promoted"]


@dataclass(slots=True)
class Entry:
    """One experiment and where it stands. ``origin`` is the file that defines it, "" where the API does; ``version``
    counts its definitions. ``reason`` tells why it does not run or, of a ramp that does, why it is held."""

    experiment: Experiment
    origin: str
    state: State
    reason: str
    live: LiveExperiment
    version: int = 1
    position: Position = UNSTARTED

    @property
    def since_ms(self) -> int:
        """From when on data count, since 1970: a ramp that is started again is judged anew."""
        return self.position.started_ms if self.experiment.steps else 0


def read_folder(folder: Path) -> list[tuple[Experiment, str]]:
    """The experiments of every ``*.toml`` in ``folder``, each with its file. Raises ``ConfigError``."""
    if not folder.is_dir():
        raise ConfigError(f"--experiments {folder}: there is no such folder")
    found: dict[str, tuple[Experiment, str]] = {}
    for path in sorted(folder.glob("*.toml")):
        experiment = read_experiment(path)
        if experiment.id in found:
            raise ConfigError(f"{path}: {found[experiment.id][1]} defines an experiment {experiment.id!r} too")
        found[experiment.id] = (experiment, str(path))
    return list(found.values())


class ExperimentRegistry:
    """Used on the loop's thread only."""

    def __init__(self, engine: Engine, put: Put) -> None:
        self._engine = engine
        self._put = put
        self._entries: dict[str, Entry] = {}
        self._comparer = ThreadPoolExecutor(1, thread_name_prefix="inferd-shadows")

    @property
    def entries(self) -> Iterable[Entry]:
        """Every experiment, by id."""
        return [entry for _, entry in sorted(self._entries.items())]

    def get(self, experiment_id: str) -> Entry:
        """Raises ``ExperimentNotFound``."""
        entry = self._entries.get(experiment_id)
        if entry is None:
            known = ", ".join(sorted(self._entries)) or "none"
            raise ExperimentNotFound(f"no experiment {experiment_id!r}; there are: {known}")
        return entry

    def add(
        self,
        experiment: Experiment,
        origin: str,
        *,
        state: State = "running",
        reason: str = "",
        version: int = 1,
        position: Position = UNSTARTED,
    ) -> Entry:
        """Know ``experiment``, in place of one with its id. It runs if it should and the models that are served permit
        it; else it is kept as invalid, with the reason."""
        live = LiveExperiment(experiment, self._put, self._shadows_of(experiment), position)
        entry = Entry(experiment, origin, state, reason, live, version, position)
        if state == "running":
            try:
                self.check(experiment)
            except ConfigError as error:
                entry.state, entry.reason = "invalid", error.message
                logger.error("experiment %s does not run: %s", experiment.id, error.message)
        self._entries[experiment.id] = entry
        self._install()
        return entry

    def _shadows_of(self, experiment: Experiment) -> Shadows | None:
        if experiment.shadow is None:
            return None
        return Shadows(experiment, experiment.shadow, self._engine, self._put, self._comparer)

    def close(self) -> None:
        """Log what is counted and not logged; compare no more."""
        self._comparer.shutdown(wait=False, cancel_futures=True)
        for entry in self.entries:
            entry.live.tally()

    def stop(self, experiment_id: str, reason: str, state: Literal["stopped", "promoted"] = "stopped") -> Entry:
        """The kill switch: everyone gets the model's usual version from the next request on. Idempotent."""
        entry = self.get(experiment_id)
        if entry.state in ("running", "invalid") or (entry.state, state) == ("stopped", "promoted"):
            self.set_state(entry, state, reason)
            logger.info("experiment %s %s: %s", experiment_id, state, reason)
        return entry

    def set_state(self, entry: Entry, state: State, reason: str) -> None:
        """Let ``entry`` be in ``state`` from the next request on."""
        entry.state, entry.reason = state, reason
        self._install()

    def move(self, experiment_id: str, position: Position, reason: str) -> Entry:
        """Let a ramp or a bandit that runs go to ``position``, from the next request on; ``reason`` tells why a ramp is
        held there."""
        entry = self.get(experiment_id)
        entry.position = position
        entry.live.assign_by(entry.experiment, position)
        if entry.state == "running":
            entry.reason = reason
        return entry

    def check_start(self, experiment_id: str) -> None:
        """Raise ``Conflict`` with the reason when it cannot run."""
        entry = self.get(experiment_id)
        if entry.state == "archived":
            raise Conflict(f"experiment {experiment_id!r} is archived; create another one")
        try:
            self.check(entry.experiment)
        except ConfigError as error:
            raise Conflict(error.message) from None

    def start(self, experiment_id: str, position: Position = UNSTARTED) -> Entry:
        """Run an experiment that does not, from ``position`` on. Raises ``Conflict`` with the reason when it cannot."""
        entry = self.get(experiment_id)
        if entry.state != "running":
            self.check_start(experiment_id)
            entry.state = "running"
            self.move(experiment_id, position, "")
            logger.info("experiment %s started", experiment_id)
            self._install()
        return entry

    def recheck(self) -> None:
        """After a change of the table: what no longer fits stops, and the default model's experiments follow it."""
        for entry in self.entries:
            if entry.state == "running":
                try:
                    self.check(entry.experiment)
                except ConfigError as error:
                    entry.state, entry.reason = "invalid", error.message
                    logger.error("experiment %s stopped: %s", entry.experiment.id, error.message)
        self._install()

    def _install(self) -> None:
        models: dict[str, list[LiveExperiment]] = {}
        for entry in self.entries:
            if entry.state == "running":
                models.setdefault(entry.experiment.model, []).append(entry.live)
        policies: dict[Target, ModelExperiments] = {}
        for model, experiments in models.items():
            policies[Target(model)] = ModelExperiments(Target(model), experiments)
            if model == self._engine.table.default_model:
                policies[Target()] = policies[Target(model)]
        self._engine.policies = policies

    def check(self, experiment: Experiment) -> None:
        """Raise ``ConfigError`` unless it fits what is served and shares no unit with another running experiment of the
        model."""
        self.check_fits(experiment)
        for other in self.entries:
            if other.state == "running" and other.experiment.id != experiment.id:
                _check_disjoint(experiment, other.experiment)

    def check_fits(self, experiment: Experiment) -> None:
        """Raise ``ConfigError`` unless every variant exists and fits the control's signature."""
        table = self._engine.table
        if experiment.model not in table.models:
            raise ConfigError(f"no model {experiment.model!r} is served; there are: {', '.join(sorted(table.models))}")
        tickets: dict[str, Ticket] = {}
        for variant in experiment.variants:
            model, _, version = variant.target.partition("@")
            versions = table.models.get(model)
            if versions is None or (version.isdigit() and int(version) not in versions):
                raise ConfigError(f"variant {variant.name!r}: {variant.target} is not served")
            ticket = find_ticket(variant.target, table)
            if ticket is not None:
                tickets[variant.name] = ticket
        _check_compatible({name: ticket.servable.signature for name, ticket in tickets.items()})
        if experiment.shadow is not None:
            _check_comparable(experiment.shadow, tickets)
        if experiment.mode in ("ramp", "shadow"):
            self._check_usual(experiment)

    def _check_usual(self, experiment: Experiment) -> None:
        """Raise ``ConfigError`` when those who take no part, and everyone after a roll-back, would not get control."""
        table = self._engine.table
        usual, control = table.tickets.get(Target(experiment.model)), find_ticket(experiment.control.target, table)
        if usual is not None and control is not None and usual.servable is not control.servable:
            name, version = control.servable.name, control.servable.version
            raise ConfigError(
                f"who takes no part gets version {usual.servable.version} of {experiment.model!r}, not control's "
                f"{experiment.control.target}: run inferd models label {name} {DEFAULT_LABEL} {version} first"
            )


def _check_compatible(signatures: Mapping[str, Signature]) -> None:
    """Callers must be able to send the same inputs to every variant and read its answers the same way."""
    shapes = {name: _shape_of(signature) for name, signature in signatures.items()}
    for name, shape in shapes.items():
        first = next(iter(shapes))
        if shape != shapes[first]:
            raise ConfigError(f"variant {name!r} has another signature than {first!r}: {shape} against {shapes[first]}")


def _check_comparable(shadow: Shadow, tickets: Mapping[str, Ticket]) -> None:
    """Every answer must be one that can be compared, and what shall not be kept must be there."""
    for name, ticket in tickets.items():
        if ticket.servable.streaming:
            raise ConfigError(
                f"variant {name!r} answers in streams, which cannot be compared: leave out [shadow], and mode shadow"
            )
        signature = ticket.servable.signature
        known = [spec.name for spec in (*signature.inputs, *signature.outputs)]
        for each in shadow.redact:
            if each not in known:
                raise ConfigError(f"shadow.redact: no input or output is named {each!r}{suggestion(each, known)}")


def _shape_of(signature: Signature) -> dict[str, list[Any]]:
    return {
        "inputs": [(spec.name, spec.datatype, spec.shape) for spec in signature.inputs],
        "outputs": [(spec.name, spec.datatype, spec.shape) for spec in signature.outputs],
    }


def _check_disjoint(one: Experiment, other: Experiment) -> None:
    if one.model != other.model:
        return
    a, b = one.namespace, other.namespace
    if a is None or b is None or a.name != b.name or (a.start < b.end and b.start < a.end):
        raise ConfigError(
            f"experiment {other.id!r} runs on {one.model!r} already; "
            "give both slices of one [namespace] that do not overlap, or stop one"
        )
