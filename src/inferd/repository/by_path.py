"""Models that somebody gave by their paths while the server runs: beside the repository's, or in place of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

from inferd.core.errors import Conflict, LoadFailed
from inferd.repository.decided import Scan
from inferd.repository.desired import Choose, WantedModel
from inferd.repository.state import Decision
from inferd.repository.threads import in_thread

Find = Callable[[str, str, Choose], WantedModel]
"""The model of the first argument's name at the path that is the second. Raises ``ConfigError``; slow."""
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Placed:
    """A folder in place of the repository's, the model that was last found in it, and what had been decided about the
    repository's, which counts again when that is back."""

    folder: str
    model: WantedModel
    set_aside: Decision | None


class State(NamedTuple):
    """What stands in place of a model of the repository, and what is decided about the one that is served."""

    placed: Placed | None
    decision: Decision | None


class ModelsByPath:
    """``decisions`` are those of all models; of one that is placed they are about that. Used on the loop's thread."""

    def __init__(self, find: Find, choose: Choose, decisions: dict[str, Decision]) -> None:
        self._find = find
        self._choose = choose
        self._decisions = decisions
        self._added: dict[str, tuple[str, WantedModel]] = {}
        self._placed: dict[str, Placed] = {}

    @property
    def added(self) -> Mapping[str, str]:
        """The models that were added, and their paths."""
        return {name: path for name, (path, _) in self._added.items()}

    def folder(self, name: str) -> str:
        """The folder in place of the repository's; "" when there is none."""
        return self._placed[name].folder if name in self._placed else ""

    async def add(self, name: str, path: str) -> None:
        """Add the model at ``path``. Raises ``ConfigError`` for one that holds none."""
        self._added[name] = (path, await in_thread(partial(self._find, name, path, self._choose)))

    def remove(self, name: str) -> None:
        """Forget a model that was added."""
        del self._added[name]

    async def place(self, name: str, folder: str, overrides: Mapping[str, Any]) -> None:
        """Put ``folder`` in place of the repository's model, with ``overrides`` and no other decision.

        Raises ``Conflict`` for a model that was added, and ``ConfigError`` for a folder that holds no model; then the
        caller goes back to the state before.
        """
        if name in self._added:
            raise Conflict(f"the model {name!r} was added by its path; remove it first")
        self.unplace(name)
        set_aside = self._decisions.get(name)
        self._decisions[name] = Decision(overrides=dict(overrides))
        found = await in_thread(partial(self._find, name, folder, self._choose))
        self._placed[name] = Placed(folder, found, set_aside)

    def unplace(self, name: str) -> None:
        """Put the repository's model back, and what had been decided about it."""
        placed = self._placed.pop(name, None)
        if placed is not None:
            put(self._decisions, name, placed.set_aside)

    def state(self, name: str) -> State:
        """What ``restore`` takes."""
        return State(self._placed.get(name), self._decisions.get(name))

    def restore(self, name: str, state: State) -> None:
        """Undo what came after ``state``."""
        put(self._placed, name, state.placed)
        put(self._decisions, name, state.decision)

    async def look(self, scan: Scan) -> list[WantedModel]:
        """The repository's models but those that something takes the place of, and those by path; one whose files are
        gone stays as it was."""
        by_path = {**self._added, **{name: (each.folder, each.model) for name, each in self._placed.items()}}
        placed = set(self._placed)

        def look() -> list[WantedModel]:
            wanted = [model for model in scan(self._choose) if model.name not in placed]
            return [*wanted, *(self._found(name, path, known) for name, (path, known) in by_path.items())]

        return await in_thread(look)

    def _found(self, name: str, path: str, known: WantedModel) -> WantedModel:
        try:
            return self._find(name, path, self._choose)
        except LoadFailed:
            return known


def put(mapping: dict[str, Value], name: str, value: Value | None) -> None:
    """Set an entry, or remove it for None."""
    if value is None:
        mapping.pop(name, None)
    else:
        mapping[name] = value
