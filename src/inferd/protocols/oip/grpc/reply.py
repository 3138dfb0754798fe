"""Hot: encode a model's outputs as a ``ModelInferResponse``.

Raw answers are written by hand, so that a tensor is copied once; typed ones by the protobuf library.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from inferd.core.errors import ExecutionFailed
from inferd.core.tensors import datatype_name
from inferd.protocols.grpc.errors import CONTENT_TYPE
from inferd.protocols.grpc.schema import message_class
from inferd.protocols.grpc.wire import length_field, varint
from inferd.protocols.oip.binary import to_buffer
from inferd.protocols.oip.classification import classify
from inferd.protocols.oip.grpc.contents import FIELDS, write_contents
from inferd.protocols.oip.reply import AnswerForm
from inferd.protocols.oip.shared_memory import parameters_of
from inferd.protocols.shared.json_write import output_of
from inferd.protocols.shared.regions import CallerMemory

_RAW_TAG = varint(6 << 3 | 2)
# The response parameter {"triton_final_response": true}, or false, encoded.
_FINAL, _NOT_FINAL = (
    length_field(4, length_field(1, b"triton_final_response") + length_field(2, value))
    for value in (b"\x08\x01", b"\x08\x00")
)


class GrpcReply:
    """The encoder of one request's answer. ``head`` is the response's name, version, id and parameters, encoded;
    with ``typed`` the values go where their datatype's contents are, unless one of them has none. ``final`` when the
    caller asked to be told which response is the last. ``memory`` has the regions the caller may use."""

    __slots__ = ("_final", "_form", "_head", "_memory", "_typed", "content_type")

    def __init__(
        self, form: AnswerForm, head: bytes, *, typed: bool, final: bool, memory: CallerMemory | None = None
    ) -> None:
        self.content_type = CONTENT_TYPE
        self._form = form
        self._head = head
        self._final = final
        self._typed = typed
        self._memory = memory

    def encode(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        """See ``Reply`` of the shared endpoint."""
        return self._encode(outputs, self._head + _FINAL if self._final else self._head), b""

    def encode_part(self, outputs: Mapping[str, np.ndarray]) -> bytes:
        """One of several responses."""
        return self._encode(outputs, self._head + _NOT_FINAL if self._final else self._head)

    def encode_end(self) -> bytes:
        """What follows the last of several responses: nothing, unless the caller asked for it."""
        return self._head + _FINAL if self._final else b""

    def _encode(self, outputs: Mapping[str, np.ndarray], head: bytes) -> bytes:
        form = self._form
        arrays = []
        for output in form.outputs:
            array = output_of(outputs, output.name)
            if output.classes:
                array = classify(array, output.name, output.classes, form.labels, batchable=form.batchable)
            arrays.append((output.name, _datatype(array, output.name), array))
        if self._typed and all(datatype in FIELDS for _, datatype, _ in arrays):
            return head + _encode_typed(arrays)
        pieces: list[bytes | memoryview] = [head]
        raw: list[bytes | memoryview] = []
        for output, (name, datatype, array) in zip(form.outputs, arrays, strict=True):
            buffer = to_buffer(array, name)
            if output.region is None or self._memory is None:
                pieces.append(_tensor(name, datatype, array.shape))
                raw += (_RAW_TAG, varint(buffer.nbytes), buffer)
            else:  # an empty entry, so that callers may count entries as they count outputs
                size = self._memory.write(output.region, buffer)
                pieces.append(_shared(name, datatype, array.shape, parameters_of(output.region, size)))
                raw += (_RAW_TAG, b"\0")
        return b"".join(pieces + raw)


def _encode_typed(arrays: list[tuple[str, str, np.ndarray]]) -> bytes:
    message = message_class("inference.ModelInferResponse")()
    for name, datatype, array in arrays:
        tensor = message.outputs.add(name=name, datatype=datatype, shape=array.shape)
        tensor.contents.SetInParent()
        write_contents(tensor.contents, datatype, array, name)
    body: bytes = message.SerializeToString()
    return body


@lru_cache(1024)
def _tensor(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    """An ``InferOutputTensor`` without contents, as the response's field."""
    sizes = b"".join(map(varint, shape))
    content = length_field(1, name.encode()) + length_field(2, datatype.encode())
    return length_field(5, content + (length_field(3, sizes) if sizes else b""))


def _shared(name: str, datatype: str, shape: tuple[int, ...], parameters: Mapping[str, Any]) -> bytes:
    """The same for one that lies in shared memory."""
    message = message_class("inference.ModelInferResponse")()
    tensor = message.outputs.add(name=name, datatype=datatype, shape=shape)
    for key, value in parameters.items():
        if type(value) is str:
            tensor.parameters[key].string_param = value
        else:
            tensor.parameters[key].int64_param = value
    body: bytes = message.SerializeToString()
    return body


def _datatype(array: np.ndarray, name: str) -> str:
    try:
        return datatype_name(array.dtype)
    except ValueError:
        raise ExecutionFailed(f"output {name!r} has dtype {array.dtype}, which V2 cannot express") from None
