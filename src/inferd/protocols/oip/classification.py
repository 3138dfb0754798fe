"""Answer the likeliest classes of an output as text instead of its numbers.

Format: Triton's "Classification Extension": ``score:index`` or ``score:index:label``, the highest score first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inferd.core.errors import ExecutionFailed


def classify(array: np.ndarray, name: str, count: int, labels: Sequence[object], *, batchable: bool) -> np.ndarray:
    """The ``count`` highest values of each row as BYTES ``[rows, count]``; ``[count]`` for a model without batches.

    ``labels`` are used when there is one for each value of a row. Raises ``ExecutionFailed`` when the output is not
    numeric.
    """
    if array.dtype.kind in "OSUTb" or array.ndim == 0:
        raise ExecutionFailed(f"output {name!r} is no tensor of scores, so it has no classes")
    rows = array.reshape(len(array), -1) if batchable else array.reshape(1, -1)
    width = rows.shape[1]
    names = [f":{label}" for label in labels] if len(labels) == width else [""] * width
    write = "{:d}:{}{}" if array.dtype.kind in "iu" else "{:f}:{}{}"
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    result = np.empty(order.shape, dtype=object)
    for row, indices in enumerate(order.tolist()):
        scores = rows[row].tolist()
        result[row] = [write.format(scores[index], index, names[index]).encode() for index in indices]
    return result if batchable else result[0]
