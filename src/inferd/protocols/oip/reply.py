"""Hot: encode a model's outputs as a V2 answer: JSON, with tensors in it or as raw bytes behind it.

Format: Open Inference Protocol V2, "Inference Response JSON Object", and Triton's "Binary Tensor Data Extension".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from inferd.core.config import NanPolicy
from inferd.core.errors import ExecutionFailed
from inferd.core.tensors import datatype_name
from inferd.protocols.oip.binary import to_buffer
from inferd.protocols.oip.classification import classify
from inferd.protocols.oip.shared_memory import parameters_of
from inferd.protocols.shared.compression import MIN_BYTES, compress
from inferd.protocols.shared.json_write import NAN_HEADER, TEXT_KINDS, output_of, write_tensor
from inferd.protocols.shared.regions import CallerMemory, RegionSlice

_NUMPY = orjson.OPT_SERIALIZE_NUMPY
(_LETTER_U,) = b"u"  # of null, as orjson writes what is not finite


class OutputForm:
    """One output as a caller wants it: its name, in binary or not, how many classes instead of its values, and where in
    shared memory, which is in binary too."""

    __slots__ = ("_known", "binary", "classes", "head", "is_plain", "name", "region")

    def __init__(self, name: str, *, binary: bool, classes: int = 0, region: RegionSlice | None = None) -> None:
        self.name = name
        self.binary = binary
        self.classes = classes
        self.region = region
        self.head = b'{"name":%b,"datatype":"' % orjson.dumps(name)
        self.is_plain = not (binary or classes or region)
        self._known: tuple[object, object, bytes] = (None, None, b"")

    def opening(self, array: np.ndarray) -> bytes:
        """The output's JSON up to its data. Most answers have the shape of the one before."""
        shape, dtype, text = self._known
        if array.shape != shape or array.dtype is not dtype:
            text = b'%b%b","shape":%b,' % (self.head, _datatype(array, self.name), orjson.dumps(array.shape))
            self._known = array.shape, array.dtype, text
        return text


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """All that is known of an answer before it is computed. ``head`` is its JSON up to the id."""

    head: bytes
    outputs: Sequence[OutputForm]
    nan: NanPolicy
    labels: Sequence[object]
    batchable: bool
    content_type: bytes


class OipReply:
    """The encoder of one request's answer. ``id_member`` is ``"id":"...",`` or empty; ``encoding`` a content coding
    the caller accepts, or empty; ``memory`` the regions the caller may use."""

    __slots__ = ("_encoding", "_form", "_id_member", "_memory", "content_type")

    def __init__(self, form: AnswerForm, id_member: bytes, encoding: bytes, memory: CallerMemory | None = None) -> None:
        self.content_type = form.content_type
        self._form = form
        self._id_member = id_member
        self._encoding = encoding
        self._memory = memory

    def encode(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        """See ``Reply`` of the shared endpoint."""
        form = self._form
        first = form.outputs[0]
        if first.is_plain and len(form.outputs) == 1 and not self._encoding:
            array = output_of(outputs, first.name)
            data, lossy = _data(array, first.name, form.nan)
            body = b'%b%b"outputs":[%b"data":%b}]}' % (form.head, self._id_member, first.opening(array), data)
            return body, NAN_HEADER if lossy else b""
        texts: list[bytes] = []
        buffers: list[memoryview] = []
        extra = b""
        for output in form.outputs:
            array = output_of(outputs, output.name)
            if output.classes:
                array = classify(array, output.name, output.classes, form.labels, batchable=form.batchable)
            opening = output.opening(array)
            if output.region is not None and self._memory is not None:
                size = self._memory.write(output.region, to_buffer(array, output.name))
                texts.append(b'%b"parameters":%b}' % (opening, orjson.dumps(parameters_of(output.region, size))))
            elif output.binary:
                buffer = to_buffer(array, output.name)
                texts.append(b'%b"parameters":{"binary_data_size":%d}}' % (opening, buffer.nbytes))
                buffers.append(buffer)
            else:
                data, lossy = _data(array, output.name, form.nan)
                texts.append(b'%b"data":%b}' % (opening, data))
                if lossy:
                    extra = NAN_HEADER
        body = b'%b%b"outputs":[%b]}' % (form.head, self._id_member, b",".join(texts))
        if buffers:
            extra += b"inference-header-content-length: %d\r\n" % len(body)
            body = b"".join([body, *buffers])
        if self._encoding and len(body) >= MIN_BYTES:
            return self._compressed(body, extra)
        return body, extra

    def _compressed(self, body: bytes, extra: bytes) -> tuple[bytes, bytes]:
        smaller = compress(body, self._encoding)
        if smaller is None:
            return body, extra + b"vary: accept-encoding\r\n"
        return smaller, b"%bcontent-encoding: %b\r\nvary: accept-encoding\r\n" % (extra, self._encoding)


def _datatype(array: np.ndarray, name: str) -> bytes:
    found = _DATATYPES.get(array.dtype)
    if found is not None:
        return found
    try:
        return datatype_name(array.dtype).encode()
    except ValueError:
        raise ExecutionFailed(f"output {name!r} has dtype {array.dtype}, which V2 cannot express") from None


_DATATYPES = {
    np.dtype(kind): datatype_name(np.dtype(kind)).encode() for kind in ("f4", "f8", "f2", "i8", "i4", "u1", "?", "O")
}


def _data(array: np.ndarray, name: str, nan: NanPolicy) -> tuple[bytes, bool]:
    """The values as one flat JSON array, and whether a value that is no number became null."""
    flat = array.reshape(-1)
    try:
        text = orjson.dumps(flat, option=_NUMPY)
        if _LETTER_U not in text:
            return text, False
    except TypeError:
        pass
    text = write_tensor(flat, name, nan)
    return text, nan == "null" and array.dtype.kind not in TEXT_KINDS and b"null" in text
