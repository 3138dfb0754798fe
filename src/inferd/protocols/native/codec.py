"""Hot: read a ``/predict`` body into a request and choose how its answer is written. Pure: bytes in, bytes out.

Row form ``{"instances": [...]}``: one item per row, an array or, by input name, an object. A model that is not
batchable takes exactly one instance, its whole input. Column form ``{"inputs": {...}}``: whole tensors by input name,
or bare for a model of one input. Both may carry ``outputs`` (names wanted) and ``parameters`` (an object for the
model). ``application/x-npy`` and ``application/x-npz`` carry whole tensors too.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from inferd.core.config import NanPolicy
from inferd.core.errors import InvalidRequest, MalformedRequest, NotAcceptable
from inferd.core.messages import InferenceRequest
from inferd.core.tensors import Signature, explain_names
from inferd.protocols.native.example import example_request
from inferd.protocols.shared.endpoint import Reply
from inferd.protocols.shared.json_body import JsonBody
from inferd.protocols.shared.json_members import refuse
from inferd.protocols.shared.json_reply import Form, JsonReply
from inferd.protocols.shared.media import JSON, NPY, NPZ, accepted_types, body_type
from inferd.protocols.shared.npy import fit, read_npy, read_npz
from inferd.protocols.shared.npy_reply import NpyReply, NpzReply

_TYPES = (JSON, NPY, NPZ)
_PLAIN_BODY = (None, b"application/json")
_PLAIN_ACCEPT = (None, b"*/*", b"application/json")

_MAX_EXAMPLE_VALUES = 64


class NativeCodec:
    """The ``/predict`` codec of one model signature, compiled when the version becomes ready. Safe to share between
    threads."""

    def __init__(
        self,
        signature: Signature,
        *,
        batchable: bool,
        nan: NanPolicy,
        select_outputs: tuple[str, ...] = (),
    ) -> None:
        self._signature = signature
        self._nan: NanPolicy = nan
        self._specs = {spec.name: spec for spec in signature.inputs}
        self._only = signature.inputs[0] if len(signature.inputs) == 1 else None
        self._wanted = select_outputs
        self._row_form: Form = "rows" if batchable else "one"
        self._plain_reply = self._reply((JSON,), self._row_form, select_outputs)
        self._json = JsonBody(signature, batchable=batchable, nan=nan, select_outputs=select_outputs)
        self._fast, self._fast_name = self._json.fast, self._json.fast_name
        self._batchable = batchable

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[InferenceRequest, Reply]:
        """The request in ``body``, without time stamps or id, and the encoder of its answer.

        ``headers`` has lower-case names. Raises ``MalformedRequest``, ``InvalidRequest``, ``UnsupportedMediaType``
        and ``NotAcceptable``.
        """
        if headers.get(b"content-type") in _PLAIN_BODY and headers.get(b"accept") in _PLAIN_ACCEPT:
            array = self._fast(body)
            if array is not None:
                return InferenceRequest({self._fast_name: array}, wanted=self._wanted), self._plain_reply
        return self._decode_any(body, headers)

    def _decode_any(self, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[InferenceRequest, Reply]:
        try:
            return self._decode_body(body, headers)
        except (MalformedRequest, InvalidRequest) as error:
            if self._example is not None:
                error.details.setdefault("example", self._example)
            raise

    def _decode_body(self, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[InferenceRequest, Reply]:
        content = body_type(headers.get(b"content-type"), _TYPES)
        accepted = accepted_types(headers.get(b"accept"), _TYPES)
        if content == JSON:
            request, form = self._json.read(body)
        else:
            inputs = self._decode_npy(body) if content == NPY else self._decode_npz(body)
            request, form = InferenceRequest(inputs, wanted=self._wanted), self._row_form
        return request, self._reply(accepted, form, request.wanted)

    def _decode_npy(self, body: bytes) -> dict[str, np.ndarray]:
        if self._only is None:
            refuse(f"NPY carries one tensor, the model takes {len(self._specs)}; send application/x-npz", "", None)
        return {self._only.name: fit(read_npy(body), self._only)}

    def _decode_npz(self, body: bytes) -> dict[str, np.ndarray]:
        arrays = read_npz(body)
        explain_names(self._signature, arrays)
        inputs = {name: fit(array, self._specs[name]) for name, array in arrays.items()}
        self._json.inputs.check_rows(inputs)
        return inputs

    @cached_property
    def _example(self) -> dict[str, Any] | None:
        """The body to show beside an error, unless nobody could read it."""
        if sum(abs(prod(spec.shape)) for spec in self._signature.inputs) > _MAX_EXAMPLE_VALUES:
            return None
        return example_request(self._signature, batchable=self._batchable)

    def _reply(self, accepted: tuple[bytes, ...], form: Form, wanted: tuple[str, ...]) -> Reply:
        """The first accepted type that can carry the answer."""
        names = wanted or self._signature.output_names
        content = next((kind for kind in accepted if kind != NPY or len(names) == 1), None)
        if content is None:
            raise NotAcceptable(
                f"application/x-npy carries one output and this answer has {len(names)} ({', '.join(names)}); "
                "select one with 'outputs', or accept application/x-npz or application/json"
            )
        if content == JSON:
            return JsonReply(names, form, self._nan)
        return NpyReply(names[0]) if content == NPY else NpzReply(names)
