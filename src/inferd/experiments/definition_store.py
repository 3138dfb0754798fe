"""What is decided about experiments in the database: definitions, whether they run, and who changed what. Blocking;
never called on the event loop."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import IntegrityError

from inferd.core.errors import Conflict, ExperimentNotFound
from inferd.experiments.database import answering, writing
from inferd.experiments.definition import Experiment
from inferd.experiments.definition_toml import values_of
from inferd.experiments.position import UNSTARTED, Position
from inferd.experiments.promotion import Promotion
from inferd.experiments.tables import CHANGES, DEFINITIONS, UNITS

StoredState = Literal["running", "stopped", "archived", "promoted"]
What = Literal[
    "created",
    "changed",
    "started",
    "stopped",
    "archived",
    "promoted",
    "advanced",
    "held",
    "resumed",
    "rolled back",
    "warned",
    "learned",
]
_WHAT: Mapping[StoredState, What] = {
    "running": "started",
    "stopped": "stopped",
    "archived": "archived",
    "promoted": "promoted",
}


@dataclass(frozen=True, slots=True)
class Stored:
    """One experiment as the database has it. ``version`` counts its definitions from 1; ``origin`` is the file that
    defines it, "" where the API does. ``values`` are the keys of the definition. ``reason`` tells why it does not run
    or, of a ramp that does, why it is held."""

    id: str
    version: int
    origin: str
    values: Mapping[str, Any]
    state: StoredState
    reason: str = ""
    position: Position = UNSTARTED
    promotion: Promotion | None = None


class Standing(NamedTuple):
    """What a decision about a ramp was made on."""

    id: str
    position: Position
    held: bool


Shares = tuple[Mapping[str, float], Mapping[str, float]]
"""Of requests, by variant: before and after."""


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the audit trail. ``at_ms`` counts from 1970; ``who`` is the id of a key, the name of a file, or ""
    for somebody without a key. ``before`` and ``after`` are definitions, or hold the ``state``."""

    number: int
    experiment: str
    at_ms: int
    who: str
    what: str
    why: str
    version: int
    before: Mapping[str, Any]
    after: Mapping[str, Any]


class DefinitionStore:
    """Any thread may call it, several servers may share it. All raise ``StoreUnavailable``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> list[Stored]:
        """Every experiment, archived ones too."""
        with answering(), self._engine.connect() as connection:
            return [_stored(row) for row in connection.execute(select(DEFINITIONS).order_by(DEFINITIONS.c.id))]

    def last_change(self) -> int:
        """The number of the latest change of any experiment; 0 where there was none."""
        with answering(), self._engine.connect() as connection:
            return connection.scalar(select(func.max(CHANGES.c.number))) or 0

    def adopt(self, experiment: Experiment, origin: str) -> Stored:
        """Note what the file ``origin`` defines: a new version where that differs from what is stored. Whether it runs
        stays as it was decided; an experiment nobody knew runs."""
        with writing(self._engine) as connection:
            found = _find(connection, experiment.id)
            if found is None:
                return _insert(connection, _new(experiment, origin, "running"), origin)
            if (found.values, found.origin) == (_plain(values_of(experiment)), origin):
                return found
            return _replace(connection, found, experiment, origin, origin)

    def create(self, experiment: Experiment, state: StoredState, who: str) -> Stored:
        """Keep a new experiment. Raises ``Conflict`` when the id was ever used."""
        try:
            with writing(self._engine) as connection:
                return _insert(connection, _new(experiment, "", state), who)
        except IntegrityError:
            raise Conflict(
                f"there is an experiment {experiment.id!r} already; choose another id, or change it with PUT"
            ) from None

    def replace(self, experiment: Experiment, version: int, who: str) -> Stored:
        """Replace ``version`` of the definition by its next.

        Raises ``ExperimentNotFound``, and ``Conflict`` when another version is stored, when it is archived, and when
        units that were assigned already would change variants.
        """
        with writing(self._engine) as connection:
            found = _find(connection, experiment.id)
            if found is None:
                raise ExperimentNotFound(f"no experiment {experiment.id!r} is stored")
            _check_version(found, version)
            if found.state == "archived":
                raise Conflict(f"experiment {experiment.id!r} is archived; create another one")
            _check_assignment(connection, found, experiment)
            return _replace(connection, found, experiment, "", who)

    def set_state(
        self,
        experiment_id: str,
        state: StoredState,
        who: str,
        why: str,
        version: int | None = None,
        *,
        what: What | None = None,
        promotion: Promotion | None = None,
    ) -> Stored:
        """Run, stop, promote or archive an experiment; does nothing when that is its state. A ramp that is started
        begins with its first step, a bandit with what it has learned. The audit trail says ``what``, where the state
        alone would not.

        Raises ``ExperimentNotFound``, and ``Conflict`` when it is archived or, where ``version`` is given, another one
        is stored."""
        with writing(self._engine) as connection:
            found = _find(connection, experiment_id)
            if found is None:
                raise ExperimentNotFound(f"no experiment {experiment_id!r} is stored")
            if version is not None:
                _check_version(found, version)
            if found.state == state:
                return found
            if found.state == "archived":
                raise Conflict(f"experiment {experiment_id!r} is archived; create another one")
            changed = replace(found, state=state, reason=why, promotion=promotion or found.promotion)
            if state == "running":
                changed = replace(changed, position=_start(found.position.learned))
            before, after = {"state": found.state}, {"state": state, **(asdict(promotion) if promotion else {})}
            _save(connection, changed)
            _record(connection, experiment_id, who, what or _WHAT[state], why, found.version, before, after)
            return changed

    def move(self, seen: Standing, step: int, what: What, who: str, why: str) -> Stored | None:
        """Let a ramp that runs go from where it was ``seen`` to ``step``; one that stays there is ``held`` or
        ``resumed``. None when it stands elsewhere by now, since another server or a person was faster."""
        with writing(self._engine) as connection:
            found = _find(connection, seen.id)
            if found is None or _standing(found) != seen or found.state != "running":
                return None
            changed = replace(found, reason=why if what == "held" else "")
            if step != found.position.step:
                changed = replace(changed, position=replace(found.position, step=step, step_ms=_now_ms()))
            _save(connection, changed)
            before, after = {"step": found.position.step}, {"step": step}
            _record(connection, seen.id, who, what, why, found.version, before, after)
            return changed

    def learn(self, seen: Standing, learned: str, shares: Shares, who: str, why: str) -> Stored | None:
        """Let a bandit that runs go by what it has ``learned`` from where it was ``seen``; ``shares`` of the variants
        are those before and after. None as for ``move``."""
        with writing(self._engine) as connection:
            found = _find(connection, seen.id)
            if found is None or _standing(found) != seen or found.state != "running":
                return None
            changed = replace(found, position=replace(found.position, learned=learned))
            before, after = ({"shares": dict(each)} for each in shares)
            _save(connection, changed)
            _record(connection, seen.id, who, "learned", why, found.version, before, after)
            return changed

    def warn(self, seen: Standing, metric: str, who: str, why: str) -> bool:
        """Note once a run that the guardrail of ``metric`` is broken; False when that was noted already."""
        noted = select(CHANGES.c.after).where(
            CHANGES.c.experiment == seen.id, CHANGES.c.what == "warned", CHANGES.c.at_ms >= seen.position.started_ms
        )
        with writing(self._engine) as connection:
            found = _find(connection, seen.id)
            about = {"guardrail": metric}
            if found is None or json.dumps(about) in connection.scalars(noted).all():
                return False
            _record(connection, seen.id, who, "warned", why, found.version, {}, about)
            return True

    def history(self, experiment_id: str, limit: int) -> Sequence[Change]:
        """The latest changes of one experiment, the last first."""
        query = select(CHANGES).where(CHANGES.c.experiment == experiment_id).order_by(CHANGES.c.number.desc())
        with answering(), self._engine.connect() as connection:
            rows = connection.execute(query.limit(limit)).mappings().all()
        return [
            Change(**{**row, "before": json.loads(row["before"]), "after": json.loads(row["after"])}) for row in rows
        ]


def _find(connection: Connection, experiment_id: str) -> Stored | None:
    row = connection.execute(select(DEFINITIONS).where(DEFINITIONS.c.id == experiment_id).with_for_update()).first()
    return None if row is None else _stored(row)


def _stored(row: Any) -> Stored:
    return Stored(
        row.id,
        row.version,
        row.origin,
        json.loads(row.definition),
        row.state,
        row.reason,
        Position(row.step, row.step_ms, row.started_ms, row.learned),
        Promotion(**json.loads(row.promotion)) if row.promotion else None,
    )


def _standing(stored: Stored) -> Standing:
    return Standing(stored.id, stored.position, bool(stored.reason))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _new(experiment: Experiment, origin: str, state: StoredState) -> Stored:
    position = _start() if state == "running" else UNSTARTED
    return Stored(experiment.id, 1, origin, values_of(experiment), state, position=position)


def _start(learned: str = "") -> Position:
    now_ms = _now_ms()
    return Position(0, now_ms, now_ms, learned)


def _columns(stored: Stored) -> dict[str, Any]:
    return {
        "id": stored.id,
        "version": stored.version,
        "origin": stored.origin,
        "definition": json.dumps(stored.values),
        "state": stored.state,
        "reason": stored.reason,
        **asdict(stored.position),
        "promotion": json.dumps(asdict(stored.promotion)) if stored.promotion else "",
    }


def _save(connection: Connection, stored: Stored) -> None:
    connection.execute(DEFINITIONS.update().where(DEFINITIONS.c.id == stored.id).values(**_columns(stored)))


def _plain(values: Mapping[str, Any]) -> Any:
    """As they come back from the database."""
    return json.loads(json.dumps(values))


def _insert(connection: Connection, stored: Stored, who: str) -> Stored:
    connection.execute(DEFINITIONS.insert().values(**_columns(stored)))
    _record(connection, stored.id, who, "created", "", stored.version, {}, {**stored.values, "state": stored.state})
    return stored


def _replace(connection: Connection, found: Stored, experiment: Experiment, origin: str, who: str) -> Stored:
    changed = replace(found, version=found.version + 1, origin=origin, values=values_of(experiment))
    _save(connection, changed)
    _record(connection, found.id, who, "changed", "", changed.version, found.values, changed.values)
    return changed


def _record(
    connection: Connection,
    experiment_id: str,
    who: str,
    what: What,
    why: str,
    version: int,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> None:
    connection.execute(
        CHANGES.insert().values(
            experiment=experiment_id,
            at_ms=_now_ms(),
            who=who,
            what=what,
            why=why,
            version=version,
            before=json.dumps(before),
            after=json.dumps(after),
        )
    )


def _check_version(found: Stored, version: int) -> None:
    if found.version != version:
        raise Conflict(
            f"version {version} of experiment {found.id!r} was changed meanwhile, version {found.version} is stored; "
            "read it, and change that one"
        )


def _check_assignment(connection: Connection, found: Stored, experiment: Experiment) -> None:
    """A unit that saw one variant must not be counted in another."""
    wanted = _plain(values_of(experiment))
    changed = [key for key in ("unit", "salt", "variant") if found.values.get(key) != wanted.get(key)]
    exposed = select(UNITS.c.unit).where(UNITS.c.experiment == found.id).limit(1)
    if changed and connection.execute(exposed).first() is not None:
        raise Conflict(
            f"units saw variants of experiment {found.id!r} already, so its {changed[0]} cannot change; "
            "stop it, and create one with another id"
        )
