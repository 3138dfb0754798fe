"""Hot: read what TorchServe's clients post to ``/predictions``: a file, a form, or JSON. Pure: bytes in, bytes out.

Reference: TorchServe, "Inference API". There a handler makes of the body what it likes; here the model's signature says
what it is. Raw bytes, and a file of a form, are one row of the single BYTES or UINT8 input; a model without such an
input takes them as JSON. JSON is one row, which is answered by its bare prediction, or, nested one deeper, an array of
rows, which is answered by an array. ``{"instances": ...}`` and ``{"inputs": ...}`` are read and answered as by
``/predict``.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.message import Message
from functools import lru_cache
from typing import Any

import numpy as np

from inferd.core.errors import InvalidRequest
from inferd.core.messages import InferenceRequest
from inferd.core.tensors import TensorSpec
from inferd.protocols.shared.compression import decompress
from inferd.protocols.shared.endpoint import Reply
from inferd.protocols.shared.json_body import JsonBody
from inferd.protocols.shared.json_exact import read_exact
from inferd.protocols.shared.json_inputs import read_body
from inferd.protocols.shared.json_reply import JsonReply
from inferd.protocols.shared.multipart import MULTIPART, URLENCODED, Field, read_form
from inferd.serving.servable import Servable

_JSON = "application/json"
_FILE_NAMES = ("data", "body")
"""TorchServe's usual names of the field that is the whole input."""
_ROWS = len(b"[")


class TorchServeCodec:
    """The codec of one version, compiled when it becomes ready. Safe to share between threads."""

    def __init__(self, servable: Servable, *, max_body_bytes: int) -> None:
        signature = servable.signature
        self._batchable = servable.batchable
        self._nan = servable.config.nan
        self._wanted = servable.default_outputs
        self._names = self._wanted or signature.output_names
        self._specs = {spec.name: spec for spec in signature.inputs}
        self._only = signature.inputs[0] if len(signature.inputs) == 1 else None
        self._takes_raw = self._only is not None and _takes_raw(self._only, self._batchable)
        self._json = JsonBody(signature, batchable=self._batchable, nan=self._nan, select_outputs=self._wanted)
        self._many = JsonReply(self._names, "bare", self._nan)
        if self._batchable:
            self._one = CutReply(self._many, _ROWS, _ROWS)
        else:
            self._one = CutReply(JsonReply(self._names, "columns", self._nan), len(b'{"outputs":'), len(b"}"))
        self._max_body_bytes = max_body_bytes

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[InferenceRequest, Reply]:
        """See ``Codec`` of the shared endpoint."""
        if b"content-encoding" in headers:
            body = decompress(body, headers[b"content-encoding"], self._max_body_bytes)
        content_type = _content_type(headers.get(b"content-type", b"application/octet-stream"))
        kind = content_type.get_content_type()
        if kind in (MULTIPART, URLENCODED):
            return self._read_fields(read_form(body, content_type))
        if kind != _JSON and self._takes_raw:
            return self._read_raw([body])
        return read_body(body, self._nan, self._build)

    def _read_raw(self, items: list[bytes]) -> tuple[InferenceRequest, Reply]:
        """Each item is a row of the single input."""
        assert self._only is not None
        if not self._batchable and len(items) != 1:
            raise InvalidRequest(f"the form has {len(items)} files; this model takes one")
        array: np.ndarray
        if self._only.datatype == "BYTES":
            array = np.empty(len(items), dtype=object)
            array[:] = items
            array = array.reshape((-1, *(1 for _ in self._only.shape[1:])) if self._only.shape else ())
        elif len({len(item) for item in items}) == 1:
            array = np.frombuffer(b"".join(items), np.uint8)
            array = array.reshape(len(items), -1) if self._batchable else array
        else:
            raise InvalidRequest("the files of one form must be equally long; send each in a request of its own")
        return self._answer({self._only.name: array}, one=len(items) == 1)

    def _read_fields(self, fields: list[Field]) -> tuple[InferenceRequest, Reply]:
        """A form: the whole input under one of its usual names, or a field for each input."""
        names = {field.name for field in fields}
        if self._only is not None and len(names) == 1 and names <= {*_FILE_NAMES, self._only.name}:
            if self._takes_raw and all(field.content_type != _JSON for field in fields):
                return self._read_raw([field.data for field in fields])
            if len(fields) == 1:
                return read_body(fields[0].data, self._nan, self._build)
        if len(names) != len(fields):
            raise InvalidRequest("the form gives a field twice", got=f"{len(fields)} fields")
        tree = {field.name: self._field_value(field) for field in fields}
        return self._build(tree, True)

    def _field_value(self, field: Field) -> Any:
        """The text of a BYTES input, the JSON of any other."""
        spec = self._specs.get(field.name)
        if spec is None or spec.datatype != "BYTES" or field.content_type == _JSON:
            return read_exact(field.data, non_finite=self._nan != "error")
        try:
            return field.data.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"the field {field.name!r} is not text", tensor=field.name) from None

    def _build(self, tree: Any, exact: bool) -> tuple[InferenceRequest, Reply]:
        read = self._json.inputs
        if type(tree) is dict and not tree.keys().isdisjoint({"instances", "inputs"} - self._specs.keys()):
            request, form = self._json.build(tree, exact)
            return request, JsonReply(request.wanted or self._names, form, self._nan)
        if not self._batchable:
            return self._answer(read.read_columns(tree, exact), one=True)
        if type(tree) is dict and tree.keys() & self._specs.keys() and self._holds_columns(tree):
            return self._answer(read.read_columns(tree, exact), one=False)
        one = not self._holds_rows(tree)
        return self._answer(read.read_rows([tree] if one else tree, exact), one=one)

    def _holds_columns(self, tree: dict[str, Any]) -> bool:
        """Whether an object by input name has whole tensors rather than one row of each."""
        name = next(name for name in tree if name in self._specs)
        return _depth(tree[name]) >= len(self._specs[name].shape)

    def _holds_rows(self, tree: Any) -> bool:
        if type(tree) is not list:
            return False
        rank = len(self._only.shape) if self._only is not None else 1
        return not tree or type(tree[0]) is dict or _depth(tree) >= rank

    def _answer(self, inputs: Mapping[str, np.ndarray], *, one: bool) -> tuple[InferenceRequest, Reply]:
        return InferenceRequest(inputs, wanted=self._wanted), self._one if one else self._many


class CutReply:
    """Another reply's body without what surrounds the prediction, so many bytes on either side."""

    __slots__ = ("_left", "_reply", "_right", "content_type")

    def __init__(self, reply: Reply, left: int, right: int) -> None:
        self.content_type = reply.content_type
        self._reply = reply
        self._left = left
        self._right = right

    def encode(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        """See ``Reply`` of the shared endpoint."""
        body, extra = self._reply.encode(outputs)
        return body[self._left : -self._right], extra


def _takes_raw(spec: TensorSpec, batchable: bool) -> bool:
    """Whether bytes of any length can be one row of the input."""
    tail = spec.shape[1:] if batchable else spec.shape
    return (spec.datatype == "BYTES" and all(size in (-1, 1) for size in tail)) or (
        spec.datatype == "UINT8" and tail == (-1,)
    )


def _depth(tree: Any) -> int:
    """How deep the first element lies in a tree of arrays."""
    depth = 0
    while type(tree) is list:
        depth += 1
        tree = tree[0] if tree else None
    return depth


@lru_cache(maxsize=64)
def _content_type(header: bytes) -> Message:
    message = Message()
    message["content-type"] = header.decode("latin-1")
    return message
