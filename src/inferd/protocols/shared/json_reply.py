"""Hot: write a model's outputs as JSON predictions, row by row or whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import orjson

from inferd.core.config import NanPolicy
from inferd.protocols.shared.json_write import NAN_HEADER, TEXT_KINDS, output_of, write_tensor

Form = Literal["rows", "one", "columns", "bare", "whole"]
"""``rows``: one prediction per row; ``one``: the whole answer is the one prediction; ``columns``: whole tensors;
``bare``: the array of ``rows`` alone; ``whole``: whole tensors under the name of ``rows``."""
Write = Callable[[np.ndarray, str, NanPolicy], bytes]
"""Writes an output, given its name, as JSON."""

_HEADS: dict[Form, bytes] = {
    "rows": b'{"predictions":',
    "one": b'{"predictions":[',
    "columns": b'{"outputs":',
    "bare": b"",
    "whole": b'{"predictions":',
}
_TAILS: dict[Form, bytes] = {"one": b"]}", "bare": b""}
_NUMPY = orjson.OPT_SERIALIZE_NUMPY
(_LETTER_U,) = b"u"  # of null, as orjson writes what is not finite; a byte is found in 20 ns


class JsonReply:
    """JSON: ``{"predictions": ...}`` or ``{"outputs": ...}``; several outputs come by name, and one is bare unless
    ``by_name``.

    ``write`` writes what ``orjson`` does not.
    """

    __slots__ = ("_by_row", "_head", "_names", "_nan", "_object", "_single", "_tail", "_write", "content_type")

    def __init__(
        self,
        names: tuple[str, ...],
        form: Form,
        nan: NanPolicy,
        write: Write = write_tensor,
        *,
        by_name: bool = False,
    ) -> None:
        self.content_type = b"application/json"
        self._names = names
        self._by_row = form in ("rows", "bare")
        self._nan = nan
        self._write = write
        self._single = names[0] if len(names) == 1 and not by_name else None
        self._head = _HEADS[form]
        self._tail = _TAILS.get(form, b"}")
        keys = [orjson.dumps(name).replace(b"%", b"%%") for name in names]
        self._object = b"{" + b",".join([key + b":%b" for key in keys]) + b"}"

    def encode(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        """See ``Reply`` of the shared endpoint."""
        try:
            if self._single is not None:
                text = orjson.dumps(outputs[self._single], option=_NUMPY)
                if _LETTER_U not in text:
                    return self._head + text + self._tail, b""
            elif self._by_row:
                texts = [orjson.dumps(outputs[name], option=_NUMPY) for name in self._names]
                if not any(_LETTER_U in text for text in texts):
                    arrays = [outputs[name] for name in self._names]
                    return self._head + _rows(arrays, texts, self._object) + self._tail, b""
        except (TypeError, KeyError):
            pass
        return self._encode_any(outputs)

    def _encode_any(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        """Any outputs. The header is owed when a value that is no number was written as null."""
        arrays = [output_of(outputs, name) for name in self._names]
        texts = [self._write(array, name, self._nan) for name, array in zip(self._names, arrays, strict=True)]
        if self._single is not None:
            inner = texts[0]
        elif self._by_row:
            inner = _rows(arrays, texts, self._object)
        else:
            inner = self._object % tuple(texts)
        lossy = self._nan == "null" and any(
            b"null" in text and array.dtype.kind not in TEXT_KINDS for array, text in zip(arrays, texts, strict=True)
        )
        return self._head + inner + self._tail, NAN_HEADER if lossy else b""


def _rows(arrays: Sequence[np.ndarray], texts: Sequence[bytes], template: bytes) -> bytes:
    """One object per row, cut out of the columns' text: a tenth of the cost of making a dict per row."""
    if len(arrays[0]) == 1:
        return b"[" + template % tuple([text[1:-1] for text in texts]) + b"]"
    columns = [cut_rows(array, text) for array, text in zip(arrays, texts, strict=True)]
    return b"[" + b",".join([template % row for row in zip(*columns, strict=True)]) + b"]"


def cut_rows(array: np.ndarray, text: bytes) -> list[bytes]:
    """The text of each row of a tensor, given the text of all."""
    if array.dtype.kind in TEXT_KINDS or array.size == 0:
        return [orjson.dumps(row) for row in orjson.loads(text)]
    opening, closing = b"[" * (array.ndim - 1), b"]" * (array.ndim - 1)
    parts = text[array.ndim : -array.ndim].split(closing + b"," + opening)
    return [opening + part + closing for part in parts] if opening else parts
