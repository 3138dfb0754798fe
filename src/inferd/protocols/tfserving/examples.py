"""Read the examples of ``:classify`` and ``:regress``: features by name, each a value or a list of values.

Format: TF Serving, "RESTful API", Classify and Regress. ``context`` holds the features that all examples share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from inferd.core.config import NanPolicy
from inferd.core.errors import InvalidRequest
from inferd.core.tensors import Signature, TensorSpec
from inferd.protocols.shared.json_inputs import JsonInputs
from inferd.protocols.shared.json_members import at

Features = Mapping[str, Any]


class Examples:
    """From examples to the inputs of one signature: a feature is the input of its name, flat in row-major order.

    Values that do not fit raise ``Doubt``, or ``InvalidRequest`` when ``exact``.
    """

    def __init__(self, signature: Signature, *, batchable: bool, nan: NanPolicy) -> None:
        self._specs = {spec.name: spec for spec in signature.inputs}
        self._batchable = batchable
        self._inputs = JsonInputs(signature, batchable=batchable, nan=nan)

    def read(self, examples: Sequence[Features], context: Features, exact: bool) -> dict[str, np.ndarray]:
        """The inputs. ``examples`` are objects; what one of them has goes before the ``context``."""
        if not self._batchable:
            raise InvalidRequest("this model takes no batches, so it has no rows to classify or regress; use :predict")
        rows = [{**context, **example} for example in examples]
        for position, row in enumerate(rows):
            self._inputs.check_names(row, f"examples[{position}]")
            if row.keys() != rows[0].keys():
                raise InvalidRequest(
                    f"examples[{position}] and those before it differ in their optional features",
                    path=f"examples[{position}]",
                )
        names = rows[0] if rows else [spec.name for spec in self._specs.values() if not spec.optional]
        return {name: self._column([row[name] for row in rows], self._specs[name], exact) for name in names}

    def _column(self, values: list[Any], spec: TensorSpec, exact: bool) -> np.ndarray:
        tail = spec.shape[1:]
        if not values:
            return np.empty((0, *(max(size, 0) for size in tail)), spec.dtype)
        size = prod(tail) if -1 not in tail else -1
        lists = [value if type(value) is list else [value] for value in values]
        flat = TensorSpec(spec.name, spec.datatype, (-1, size))
        read = self._inputs.read_tensor(lists, flat, lambda index: _place(spec.name, index), exact)
        if -1 in tail and len(tail) > 1:
            raise InvalidRequest(
                f"input {spec.name!r} has free dimensions besides the rows, which examples cannot express; "
                "use :predict",
                tensor=spec.name,
            )
        return read.reshape(len(values), *tail)


def _place(name: str, index: tuple[int, ...]) -> str:
    return at(f"examples[{index[0] if index else 0}].{name}", index[1:])
