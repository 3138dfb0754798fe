"""Which columns of a table fill which inputs of a model: by feature name, by input name, or by their order.

A model of one matrix takes a column for each of its features, by name where it knows names. Any other takes a column
for each input, whose cells hold that input's values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from inferd.core.errors import InvalidRequest
from inferd.core.tensors import Signature, TensorSpec, describe
from inferd.protocols.shared.json_members import MAX_SHOWN, did_you_mean

_SHOWN_NAMES = 20


@dataclass(frozen=True, slots=True)
class Slot:
    """An input and the places of its columns. With ``in_cells`` it is one column, of which each cell holds a row."""

    spec: TensorSpec
    places: tuple[int, ...]
    in_cells: bool


class ColumnPlan:
    """The columns that one signature takes. Safe to share between threads."""

    def __init__(self, signature: Signature, feature_names: Sequence[str]) -> None:
        self._specs = signature.inputs
        only = signature.inputs[0] if len(signature.inputs) == 1 else None
        self.matrix = only if only is not None and len(only.shape) == 2 else None
        self.is_wide = len(signature.inputs) > 1
        width = self.matrix.shape[1] if self.matrix is not None else -1
        self._features = tuple(feature_names) if len(feature_names) == width else ()

    def holds_input(self, names: Sequence[object]) -> bool:
        """Whether the columns are the inputs themselves, though the model takes a matrix."""
        return self.matrix is None or list(names) == [self.matrix.name]

    def slots(self, names: Sequence[str] | None, count: int, path: str, *, flat: bool) -> list[Slot]:
        """Where ``count`` columns go; ``names`` are None when they have none. In a ``flat`` table no cell holds more
        than one value. ``path`` is the table's.

        Raises ``InvalidRequest`` naming each column that is missing, unknown or given twice.
        """
        if not count:
            raise InvalidRequest("the table has no columns", path=path, got="no columns")
        if names is not None:
            _check_different(names, path)
        if self.matrix is not None and (flat or names is None or not self.holds_input(names)):
            return [Slot(self.matrix, self._places(self.matrix, names, count, path), in_cells=False)]
        if names is None:
            self._check_count(count, len(self._specs), path)
            slots = [Slot(spec, (place,), in_cells=True) for place, spec in enumerate(self._specs)]
        else:
            _check_names(names, self._specs, path)
            places = {name: place for place, name in enumerate(names)}
            slots = [Slot(spec, (places[spec.name],), in_cells=True) for spec in self._specs if spec.name in places]
        if flat:
            _check_cells(slots)
        return slots

    def _places(self, matrix: TensorSpec, names: Sequence[str] | None, count: int, path: str) -> tuple[int, ...]:
        if names is None or not self._features:
            self._check_count(count, matrix.shape[1], path)
            return tuple(range(count))
        if tuple(names) == self._features:
            return tuple(range(count))
        _check_names(names, [TensorSpec(name, matrix.datatype, (-1,)) for name in self._features], path)
        places = {name: place for place, name in enumerate(names)}
        return tuple(places[name] for name in self._features)

    def _check_count(self, count: int, wanted: int, path: str) -> None:
        if wanted not in (-1, count):
            names = self._features or [spec.name for spec in self._specs] if wanted > 1 else ()
            known = f": {_listed(names)}" if len(names) == wanted else ""
            raise InvalidRequest(
                f"the table has {count} column{'' if count == 1 else 's'} where the model takes {wanted}{known}",
                path=path,
                got=f"{count} columns",
                expected=f"{wanted} columns",
            )


def _check_different(names: Sequence[str], path: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidRequest(f"column {name[:MAX_SHOWN]!r} is given twice", path=path, got=name[:MAX_SHOWN])
        seen.add(name)


def _check_names(names: Sequence[str], specs: Sequence[TensorSpec], path: str) -> None:
    given, known = set(names), {spec.name for spec in specs}
    missing = [spec.name for spec in specs if spec.name not in given and not spec.optional]
    unknown = [name for name in names if name not in known]
    if missing or unknown:
        _refuse(missing, unknown, [spec.name for spec in specs], path)


def _check_cells(slots: Sequence[Slot]) -> None:
    """Raise ``InvalidRequest`` for an input whose row is more than one value."""
    for slot in slots:
        if len(slot.spec.shape) > 1:
            raise InvalidRequest(
                f"input {slot.spec.name!r} is {describe(slot.spec)}: one value in a cell cannot hold a row of it",
                tensor=slot.spec.name,
            )


def _refuse(missing: Sequence[str], unknown: Sequence[str], known: Sequence[str], path: str) -> NoReturn:
    parts = []
    if missing:
        parts.append(f"the column{'s' if len(missing) > 1 else ''} {_listed(missing)} {_are(missing)} missing")
    if unknown:
        guess = did_you_mean(unknown[0][:MAX_SHOWN], missing) if len(unknown) == 1 else ""
        parts.append(f"the column{'s' if len(unknown) > 1 else ''} {_listed(unknown)} {_are(unknown)} unknown{guess}")
    taken = "" if set(missing) == set(known) else f"; the model takes {_listed(known)}"
    raise InvalidRequest(
        f"{' and '.join(parts)}{taken}",
        path=path,
        got=[name[:MAX_SHOWN] for name in unknown[:_SHOWN_NAMES]],
        expected=list(known[:_SHOWN_NAMES]),
    )


def _are(names: Sequence[str]) -> str:
    return "are" if len(names) > 1 else "is"


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(repr(name[:MAX_SHOWN]) for name in names[:_SHOWN_NAMES])
    return text if len(names) <= _SHOWN_NAMES else f"{text} and {len(names) - _SHOWN_NAMES} more"
