"""Text is ``bytes`` in tensors and ``str`` in frameworks; this converts between the two."""

from __future__ import annotations

from typing import Any

import numpy as np

from inferd.core.errors import InvalidInput


def decoded(array: np.ndarray) -> list[str]:
    """The texts of a BYTES vector. Raises ``InvalidInput`` for one that is not UTF-8."""
    try:
        return [item.decode() for item in array]
    except UnicodeDecodeError as error:
        raise InvalidInput("the text is not UTF-8", offset=error.start) from None


def as_tensor(values: Any) -> np.ndarray:
    """A framework's answer as a tensor: dense, and text as ``bytes``."""
    array = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    if array.dtype.kind not in "OUT":
        return array
    text = np.empty(array.shape, dtype=object)
    text.ravel()[:] = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel()]
    return text
