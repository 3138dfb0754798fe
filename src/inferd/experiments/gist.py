"""What a prediction said, in one word or one number: enough to see whether two variants answer alike."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import numpy as np

MAX_LABEL = 64
"""Characters of a label that are kept."""
NOTHING: tuple[None, None] = (None, None)


def gist(outputs: Mapping[str, np.ndarray]) -> tuple[str | None, float | None]:
    """Label and score of the first row of the first output: a text or a whole number is a label, one number with a
    fraction a score, and of several numbers the index of the largest is the label, as of a classifier's probabilities.

    Hot where a model has an experiment; 1 to 2 us.
    """
    for array in outputs.values():
        if not array.size:
            return NOTHING
        row = array[0] if array.ndim else array
        if array.dtype.kind != "f":
            first = row.flat[0] if isinstance(row, np.ndarray) else row
            data = first if isinstance(first, bytes) else str(first).encode("utf-8", "replace")
            # A database stores neither halves of characters nor NUL.
            return data.decode("utf-8", "replace").replace("\0", "")[:MAX_LABEL], None
        if row.size > 1:
            return str(int(row.argmax())), None
        score = float(row.flat[0] if isinstance(row, np.ndarray) else row)
        return None, (score if isfinite(score) else None)
    return NOTHING
