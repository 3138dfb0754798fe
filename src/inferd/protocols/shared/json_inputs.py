"""Read the tensors of a signature from plain JSON values, row by row or whole, for every protocol that has both forms.

Row form: one item per row, bare values for a model of one input or objects by input name; a model that is not
batchable takes exactly one item, its whole input. Column form: whole tensors by input name, or bare.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import numpy as np
import orjson

from inferd.core.config import NanPolicy
from inferd.core.errors import InferdError, InvalidRequest
from inferd.core.tensors import Signature, TensorSpec, explain_names
from inferd.protocols.shared.json_exact import TooDeep, count_strings, read_exact
from inferd.protocols.shared.json_members import MAX_SHOWN, at, did_you_mean, prefixed, refuse
from inferd.protocols.shared.json_tensors import Doubt, Path, explain, kind_of, show, to_array

T = TypeVar("T")


def read_body(body: bytes, nan: NanPolicy, build: Callable[[Any, bool], T]) -> T:
    """What ``build(tree, exact)`` makes of a JSON body, read by ``orjson``; what does not fit or could be read in two
    ways, the exact reader decides. Raises ``MalformedRequest``, and what ``build`` raises for the exact tree."""
    try:
        tree = orjson.loads(body)
        if body.count(b'"') == 2 * count_strings(tree):
            return build(tree, False)
    except (ValueError, Doubt, TooDeep, InferdError):
        pass
    return build(read_exact(body, non_finite=nan != "error"), True)


class JsonInputs:
    """The inputs of one signature. Values that do not fit raise ``Doubt``, or ``InvalidRequest`` when ``exact``."""

    def __init__(self, signature: Signature, *, batchable: bool, nan: NanPolicy) -> None:
        self._signature = signature
        self._batchable = batchable
        self._nan: NanPolicy = nan
        self._specs = {spec.name: spec for spec in signature.inputs}
        self._only = signature.inputs[0] if len(signature.inputs) == 1 else None

    def read_rows(self, rows: Any, exact: bool) -> dict[str, np.ndarray]:
        """The tensors of ``rows``, the row form."""
        if type(rows) is not list:
            refuse(f"instances is {kind_of(rows)} where an array with one item per row is expected", "instances", rows)
        if not self._batchable and len(rows) != 1:
            refuse(
                f"instances has {len(rows)} items; this model does not take batches, so it must have exactly one, "
                "or send the whole tensor as 'inputs'",
                "instances",
                rows,
            )
        if not rows:
            required = [spec for spec in self._specs.values() if not spec.optional]
            return {spec.name: to_array([], spec, self._nan) for spec in required}
        if type(rows[0]) is dict and not self._is_bytes_value(rows[0]):
            return self._read_named_rows(rows, exact)
        if self._only is None:
            names = ", ".join(map(repr, self._specs))
            refuse(
                f"instances[0] is {kind_of(rows[0])}; the model has inputs {names}: give objects by input name",
                "instances[0]",
                rows[0],
            )
        tree, prefix = (rows, "instances") if self._batchable else (rows[0], "instances[0]")
        return {self._only.name: self.read_tensor(tree, self._only, lambda index: at(prefix, index), exact)}

    def _is_bytes_value(self, item: dict[str, Any]) -> bool:
        return self._only is not None and self._only.datatype == "BYTES" and "b64" in item and "b64" not in self._specs

    def _read_named_rows(self, rows: list[Any], exact: bool) -> dict[str, np.ndarray]:
        names = rows[0].keys() if type(rows[0]) is dict else ()
        for position, row in enumerate(rows):
            if type(row) is not dict:
                refuse(
                    f"instances[{position}] is {kind_of(row)}, those before it are objects",
                    f"instances[{position}]",
                    row,
                )
            if row.keys() != names:
                self._refuse_names(row, names, position)
        self.check_names(rows[0], "instances[0]")
        inputs = {}
        for name in names:
            column = [row[name] for row in rows]
            tree = column if self._batchable else column[0]
            inputs[name] = self.read_tensor(tree, self._specs[name], self._named_path(name), exact)
        return inputs

    def _named_path(self, name: str) -> Path:
        if self._batchable:
            return lambda index: at(f"instances[{index[0] if index else 0}].{name}", index[1:])
        return lambda index: at(f"instances[0].{name}", index)

    def _refuse_names(self, row: dict[str, Any], names: Any, position: int) -> NoReturn:
        self.check_names(row, f"instances[{position}]")
        differing = ", ".join(repr(name) for name in row.keys() ^ set(names))
        raise InvalidRequest(
            f"instances[{position}] and the rows before it disagree on the optional input {differing}; "
            "give it in all rows or in none",
            path=f"instances[{position}]",
            got=list(row),
            expected=list(names),
        )

    def check_names(self, given: dict[str, Any], path: str) -> None:
        """Raise ``InvalidRequest`` unless ``given`` has every input that is needed and no other."""
        for name in given:
            if name not in self._specs:
                raise InvalidRequest(
                    f"unknown input {show(name)}{did_you_mean(name, self._specs)}; "
                    f"the model takes {', '.join(map(repr, self._specs))}",
                    tensor=name[:MAX_SHOWN],
                    path=f"{path}.{name[:MAX_SHOWN]}",
                    got=name[:MAX_SHOWN],
                    expected=list(self._specs),
                )
        try:
            explain_names(self._signature, given)
        except InvalidRequest as error:
            error.details["path"] = path
            raise

    def read_columns(self, columns: Any, exact: bool) -> dict[str, np.ndarray]:
        """The tensors of ``columns``, the column form."""
        if type(columns) is dict and not self._is_bytes_value(columns):
            self.check_names(columns, "inputs")
            inputs = {
                name: self.read_tensor(tree, self._specs[name], prefixed(f"inputs.{name}"), exact)
                for name, tree in columns.items()
            }
            self.check_rows(inputs)
            return inputs
        if self._only is None:
            refuse(f"inputs is {kind_of(columns)} where an object by input name is expected", "inputs", columns)
        return {self._only.name: self.read_tensor(columns, self._only, prefixed("inputs"), exact)}

    def read_tensor(self, tree: Any, spec: TensorSpec, path: Path, exact: bool) -> np.ndarray:
        """``tree`` as the tensor of ``spec``; ``path`` says where its values stand."""
        try:
            return to_array(tree, spec, self._nan)
        except Doubt:
            if exact:
                explain(tree, spec, self._nan, path)
            raise

    def check_rows(self, inputs: dict[str, np.ndarray]) -> None:
        """Only whole tensors can differ in their number of rows."""
        if not self._batchable:
            return
        rows = len(next(iter(inputs.values()), ()))
        for name, array in inputs.items():
            if len(array) != rows:
                raise InvalidRequest(
                    f"input {name!r} has {len(array)} rows where the inputs before it have {rows}",
                    tensor=name,
                    path=f"inputs.{name}",
                    got=f"{len(array)} rows",
                    expected=f"{rows} rows",
                )
