"""Read the tensors of a signature from CSV with a header, as ``pandas.DataFrame.to_csv`` writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from inferd.core.errors import InvalidRequest, MalformedRequest
from inferd.protocols.mlflow.columns import ColumnPlan
from inferd.protocols.shared.csv_inputs import read_cells, read_rows

_PATH = "the header"


def read_csv(body: bytes, plan: ColumnPlan) -> dict[str, np.ndarray]:
    """The tensors of ``body``. A first column without a name is the index that pandas writes, and says nothing.

    Raises ``MalformedRequest`` for what is no CSV, else ``InvalidRequest`` naming row (from 1) and column.
    """
    rows = read_rows(body)
    if not rows:
        raise MalformedRequest("the body is empty where CSV with a header row is expected", offset=0)
    header = [name.strip() for name in rows[0]]
    first = 1 if header[0] == "" and len(header) > 1 else 0
    table = _table(rows[1:], len(header), first)
    slots = plan.slots(header[first:], len(header) - first, _PATH, flat=True)
    tensors = {}
    for slot in slots:
        names = [header[first + place] for place in slot.places]
        cells = [row[place] for row in table for place in slot.places]
        tensor = read_cells(cells, slot.spec, _by_name(names))
        tensors[slot.spec.name] = tensor if slot.in_cells else tensor.reshape(len(table), len(slot.places))
    return tensors


def _table(rows: list[list[str]], width: int, first: int) -> list[list[str]]:
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise InvalidRequest(
                f"row {number} has {len(row)} values where the header has {width}",
                path=f"row {number}",
                got=f"{len(row)} values",
                expected=f"{width} values",
            )
    return [row[first:] for row in rows] if first else rows


def _by_name(names: Sequence[str]) -> Callable[[int], str]:
    return lambda position: f"row {position // len(names) + 1}, column {names[position % len(names)]!r}"
