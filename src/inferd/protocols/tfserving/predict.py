"""Hot: read the body of ``:predict`` and choose how its answer is written. Pure: bytes in, bytes out.

Format: TF Serving, "RESTful API", Predict: ``{"instances": [...]}`` is answered by ``{"predictions": [...]}``, and
``{"inputs": ...}`` by ``{"outputs": ...}``; ``signature_name`` stands beside either. The content type is not looked at.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from inferd.core.config import NanPolicy
from inferd.core.errors import InvalidRequest
from inferd.core.messages import InferenceRequest
from inferd.core.tensors import Signature
from inferd.protocols.shared.compression import decompress
from inferd.protocols.shared.endpoint import Reply
from inferd.protocols.shared.json_fast import FastRead, compile_fast
from inferd.protocols.shared.json_inputs import JsonInputs, read_body
from inferd.protocols.shared.json_members import did_you_mean, refuse
from inferd.protocols.shared.json_reply import Form, JsonReply
from inferd.protocols.shared.json_tensors import kind_of, show
from inferd.protocols.shared.json_write import TEXT_KINDS, write_tensor
from inferd.protocols.tfserving.signatures import signature_key
from inferd.serving.servable import Servable

_MEMBERS = ("signature_name", "instances", "inputs")


class PredictCodec:
    """The ``:predict`` codec of one version. Safe to share between threads."""

    def __init__(self, servable: Servable, *, max_body_bytes: int) -> None:
        self._nan: NanPolicy = servable.config.nan
        self._max_body_bytes = max_body_bytes
        self._signatures = servable.signatures
        self._default = servable.signature
        self._wanted = servable.default_outputs
        batchable = servable.batchable
        self._inputs = {
            name: JsonInputs(signature, batchable=batchable, nan=self._nan)
            for name, signature in {**servable.signatures, "": servable.signature}.items()
        }
        self._row_form: Form = "rows" if batchable else "one"
        only = self._default.inputs[0] if batchable and len(self._default.inputs) == 1 else None
        self._fast: FastRead | None = compile_fast(only, "instances") if only else None
        self._fast_name = only.name if only else ""
        self._fast_reply = self._reply(self._default, self._row_form, self._wanted)

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[InferenceRequest, Reply]:
        """See ``Codec`` of the shared endpoint."""
        if b"content-encoding" in headers:
            body = decompress(body, headers[b"content-encoding"], self._max_body_bytes)
        array = self._fast(body) if self._fast is not None else None
        if array is not None:
            return InferenceRequest({self._fast_name: array}, wanted=self._wanted), self._fast_reply
        return read_body(body, self._nan, self._build)

    def _build(self, tree: Any, exact: bool) -> tuple[InferenceRequest, Reply]:
        _check_members(tree)
        key = signature_key(tree.get("signature_name", ""), self._signatures)
        signature, wanted = (self._signatures[key], ()) if key else (self._default, self._wanted)
        reader = self._inputs[key]
        if "instances" in tree:
            inputs, form = reader.read_rows(tree["instances"], exact), self._row_form
        else:
            inputs, form = reader.read_columns(tree["inputs"], exact), "columns"
        return InferenceRequest(inputs, wanted=wanted, signature=key), self._reply(signature, form, wanted)

    def _reply(self, signature: Signature, form: Form, wanted: tuple[str, ...]) -> JsonReply:
        return JsonReply(wanted or signature.output_names, form, self._nan, _write)


def _check_members(tree: Any) -> None:
    if type(tree) is not dict:
        refuse(f"the body is {kind_of(tree)} where an object with 'instances' or 'inputs' is expected", "", tree)
    for member in tree:
        if member not in _MEMBERS:
            refuse(f"unknown member {show(member)}{did_you_mean(member, _MEMBERS)}", member, tree[member])
    if ("instances" in tree) == ("inputs" in tree):
        raise InvalidRequest(
            "the body must have either 'instances' (row form) or 'inputs' (column form)",
            got=", ".join(tree) or "an empty object",
            expected="instances, or inputs",
        )


def _write(array: np.ndarray, name: str, nan: NanPolicy) -> bytes:
    """What is not finite as bare NaN and Infinity; text of an output whose name ends in ``_bytes`` as base64."""
    if name.endswith("_bytes") and array.dtype.kind in TEXT_KINDS:
        return orjson.dumps(_b64_tree(array.tolist()))
    return write_tensor(array, name, nan, bare=True)


def _b64_tree(item: Any) -> Any:
    if type(item) is list:
        return [_b64_tree(part) for part in item]
    raw = item if isinstance(item, bytes) else str(item).encode()
    return {"b64": binascii.b2a_base64(raw, newline=False).decode()}
