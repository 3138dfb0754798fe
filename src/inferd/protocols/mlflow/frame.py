"""Read the tensors of a signature from tables in JSON: data frames, split or by record, and lists of rows.

Format: MLflow, "Deploy MLflow Model as a Local Inference Server", "Accepted Input Formats"; what it calls split and
records is ``pandas.DataFrame.to_dict`` in these orientations.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from inferd.core.errors import InvalidRequest
from inferd.core.tensors import TensorSpec
from inferd.protocols.mlflow.columns import ColumnPlan
from inferd.protocols.shared.json_inputs import JsonInputs
from inferd.protocols.shared.json_members import MAX_SHOWN, at, did_you_mean, prefixed, refuse
from inferd.protocols.shared.json_tensors import Path, kind_of, show

Tensors = dict[str, np.ndarray]
_SPLIT = ("columns", "index", "data")
_Place = Callable[[int, int], str]
"""From row and column of a table to where that cell stands in the body."""


class FrameInputs:
    """The inputs of one signature whose rows may lie in tables: ``rows`` reads what is given row by row, ``tensors``
    what is given whole. In data frames the text of the inputs ``binary`` is base64, in lists and tensors it is itself,
    as at MLflow's own server. Values that do not fit raise ``Doubt``, or ``InvalidRequest`` when ``exact``."""

    def __init__(self, rows: JsonInputs, tensors: JsonInputs, plan: ColumnPlan, binary: Collection[str]) -> None:
        self._inputs = rows
        self._tensors = tensors
        self._plan = plan
        self._binary = binary

    def read_split(self, frame: Any, exact: bool) -> Tensors:
        """``dataframe_split``: ``data`` has a list a row, ``columns`` names their values; ``index`` says nothing."""
        if type(frame) is not dict or "data" not in frame:
            refuse("dataframe_split must be an object with 'columns' and 'data'", "dataframe_split", frame)
        for member in frame:
            if member not in _SPLIT:
                refuse(
                    f"unknown member {show(member)} of dataframe_split{did_you_mean(member, _SPLIT)}",
                    "dataframe_split",
                    frame[member],
                )
        names = _names(frame.get("columns"), "dataframe_split.columns")
        return self._read_rows(frame["data"], names, "dataframe_split.data", exact, self._binary)

    def read_records(self, rows: Any, exact: bool) -> Tensors:
        """``dataframe_records``: an object of columns for each row, all with the same names."""
        return self._read_records(rows, "dataframe_records", exact, self._binary)

    def read_instances(self, rows: Any, exact: bool) -> Tensors:
        """``instances``: a list with one item a row; objects are by input name, or by column."""
        return self._read_list(rows, "instances", exact)

    def read_inputs(self, given: Any, exact: bool) -> Tensors:
        """``inputs``: whole tensors by input name, or whole columns by theirs, or as ``instances``."""
        if type(given) is not dict:
            return self._read_list(given, "inputs", exact)
        if self._plan.holds_input(list(given)):
            return self._tensors.read_columns(given, exact)
        return self._read_columns(given, exact)

    def _read_list(self, rows: Any, path: str, exact: bool) -> Tensors:
        first = rows[0] if type(rows) is list and rows else None
        if type(first) is dict and not self._plan.holds_input(list(first)):
            return self._read_records(rows, path, exact)
        if type(first) is list and self._plan.is_wide:
            return self._read_rows(rows, None, path, exact)
        if path == "inputs" and type(first) is not dict:
            return self._tensors.read_columns(rows, exact)
        return self._inputs.read_rows(rows, exact)

    def _read_records(self, rows: Any, path: str, exact: bool, binary: Collection[str] = ()) -> Tensors:
        if type(rows) is not list:
            refuse(f"{path} is {kind_of(rows)} where an array of objects is expected", path, rows)
        if not rows:
            return self._inputs.read_rows([], exact)
        names = list(rows[0]) if type(rows[0]) is dict else []
        for number, row in enumerate(rows):
            if type(row) is not dict:
                refuse(f"{path}[{number}] is {kind_of(row)} where an object is expected", f"{path}[{number}]", row)
            if row.keys() != rows[0].keys():
                differing = ", ".join(map(show, row.keys() ^ rows[0].keys()))
                refuse(f"{path}[{number}] and the rows before it disagree on {differing}", f"{path}[{number}]", row)
        table = [[row[name] for name in names] for row in rows]
        return self._fill(
            table, names, path, lambda row, column: f"{path}[{row}].{names[column][:MAX_SHOWN]}", exact, binary
        )

    def _read_rows(
        self, rows: Any, names: list[str] | None, path: str, exact: bool, binary: Collection[str] = ()
    ) -> Tensors:
        """A list a row, each with a value for each of the columns."""
        if type(rows) is not list:
            refuse(f"{path} is {kind_of(rows)} where an array of rows is expected", path, rows)
        if not rows and names is None:
            return self._inputs.read_rows([], exact)
        width = len(names) if names is not None else len(rows[0]) if type(rows[0]) is list else 0
        for number, row in enumerate(rows):
            if type(row) is not list:
                refuse(f"{path}[{number}] is {kind_of(row)} where an array is expected", f"{path}[{number}]", row)
            if len(row) != width:
                raise InvalidRequest(
                    f"{path}[{number}] has {len(row)} values where there are {width} columns",
                    path=f"{path}[{number}]",
                    got=f"{len(row)} values",
                    expected=f"{width} values",
                )
        return self._fill(rows, names, path, lambda row, column: f"{path}[{row}][{column}]", exact, binary)

    def _fill(
        self,
        rows: list[list[Any]],
        names: list[str] | None,
        path: str,
        place: _Place,
        exact: bool,
        binary: Collection[str],
    ) -> Tensors:
        """The tensors of a table, whose rows are of one width."""
        count = len(names) if names is not None else len(rows[0])
        flat = self._plan.matrix is not None and bool(rows) and count > 0 and type(rows[0][0]) is not list
        tensors: Tensors = {}
        for slot in self._plan.slots(names, count, path, flat=flat):
            if slot.in_cells:
                cells = [row[slot.places[0]] for row in rows]
                if slot.spec.name in binary and len(slot.spec.shape) == 1:
                    cells = list(map(_as_base64, cells))
                tensor = self._inputs.read_tensor(cells, slot.spec, _in_column(place, slot.places[0]), exact)
            else:
                spec = TensorSpec(slot.spec.name, slot.spec.datatype, (-1, count))
                tensor = self._inputs.read_tensor(rows, spec, _in_table(place, path), exact)
                if slot.places != tuple(range(count)):
                    tensor = np.take(tensor, slot.places, axis=1)
            tensors[slot.spec.name] = tensor
        return tensors

    def _read_columns(self, columns: dict[str, Any], exact: bool) -> Tensors:
        """Whole feature columns by name."""
        names = list(columns)
        (slot,) = self._plan.slots(names, len(names), "inputs", flat=True)
        ordered = [names[place] for place in slot.places]
        spec = TensorSpec(slot.spec.name, slot.spec.datatype, (-1,))
        read = {
            name: self._inputs.read_tensor(columns[name], spec, prefixed(f"inputs.{name}"), exact) for name in ordered
        }
        self._inputs.check_rows(read)
        return {spec.name: np.stack([read[name] for name in ordered], axis=1)}


def _as_base64(cell: Any) -> Any:
    """A text as bytes are written in JSON here. MLflow's client breaks it into lines."""
    return {"b64": "".join(cell.split())} if type(cell) is str else cell


def _in_column(place: _Place, column: int) -> Path:
    return lambda index: at(place(index[0] if index else 0, column), index[1:])


def _in_table(place: _Place, path: str) -> Path:
    return lambda index: at(path, index) if len(index) < 2 else at(place(index[0], index[1]), index[2:])


def _names(columns: Any, path: str) -> list[str] | None:
    """The columns' names; None for those that have none but their numbers."""
    if columns is None:
        return None
    if type(columns) is not list or not {str, int}.issuperset(map(type, columns)):
        refuse("columns must be an array of names", path, columns)
    if columns == list(range(len(columns))):
        return None
    return list(map(str, columns))
