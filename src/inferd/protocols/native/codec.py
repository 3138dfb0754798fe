"""Hot: read a ``/predict`` body into a request and choose how its answer is written. Pure: bytes in, bytes out.

Row form ``{"instances": [...]}``: one item per row, an array or, by input name, an object. A model that is not
batchable takes exactly one instance, its whole input. Column form ``{"inputs": {...}}``: whole tensors by input name,
or bare for a model of one input. Both may carry ``outputs`` (names wanted) and ``parameters`` (an object for the
model). ``application/x-npy`` and ``application/x-npz`` carry whole tensors too.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from inferd.core.config import NanPolicy
from inferd.core.errors import InvalidRequest, MalformedRequest, NotAcceptable
from inferd.core.messages import NO_PARAMETERS, InferenceRequest
from inferd.core.tensors import Signature, explain_names
from inferd.protocols.native.example import example_request
from inferd.protocols.native.media import JSON, NPY, accepted_types, body_type
from inferd.protocols.native.reply import NpyReply, NpzReply
from inferd.protocols.shared.endpoint import Reply
from inferd.protocols.shared.json_fast import compile_fast
from inferd.protocols.shared.json_inputs import JsonInputs, read_body
from inferd.protocols.shared.json_members import did_you_mean, read_parameters, refuse
from inferd.protocols.shared.json_reply import Form, JsonReply
from inferd.protocols.shared.json_tensors import kind_of, show
from inferd.protocols.shared.npy import fit, read_npy, read_npz

_MEMBERS = ("instances", "inputs", "outputs", "parameters")
_PLAIN_BODY = (None, b"application/json")
_PLAIN_ACCEPT = (None, b"*/*", b"application/json")

_MAX_EXAMPLE_VALUES = 64
_COLUMNS: Form = "columns"


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
        self._inputs = JsonInputs(signature, batchable=batchable, nan=nan)
        self._nan: NanPolicy = nan
        self._specs = {spec.name: spec for spec in signature.inputs}
        self._only = signature.inputs[0] if len(signature.inputs) == 1 else None
        self._wanted = select_outputs
        self._row_form: Form = "rows" if batchable else "one"
        self._plain_reply = self._reply((JSON,), self._row_form, select_outputs)
        single = self._only if batchable else None
        self._fast = (compile_fast(single, "instances") if single else None) or _never
        self._fast_columns = (compile_fast(single, "inputs", single.name) if single else None) or _never
        self._fast_name = single.name if single else ""
        self._example = _small_example(signature, batchable)

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
        content = body_type(headers.get(b"content-type"))
        accepted = accepted_types(headers.get(b"accept"))
        if content == JSON:
            request, form = self._decode_json(body)
        else:
            inputs = self._decode_npy(body) if content == NPY else self._decode_npz(body)
            request, form = InferenceRequest(inputs, wanted=self._wanted), self._row_form
        return request, self._reply(accepted, form, request.wanted)

    def _decode_json(self, body: bytes) -> tuple[InferenceRequest, Form]:
        """By a fast reader or ``orjson``; what does not fit or could be read in two ways, the exact reader decides."""
        for read, form in ((self._fast, self._row_form), (self._fast_columns, _COLUMNS)):
            array = read(body)
            if array is not None:
                return InferenceRequest({self._fast_name: array}, wanted=self._wanted), form
        return read_body(body, self._nan, self._build)

    def _build(self, tree: Any, exact: bool) -> tuple[InferenceRequest, Form]:
        if type(tree) is not dict:
            refuse(f"the body is {kind_of(tree)} where an object with 'instances' or 'inputs' is expected", "", tree)
        for member in tree:
            if member not in _MEMBERS:
                refuse(f"unknown member {show(member)}{did_you_mean(member, _MEMBERS)}", member, tree[member])
        if ("instances" in tree) == ("inputs" in tree):
            raise InvalidRequest(
                "the body must have either 'instances' (rows) or 'inputs' (whole tensors)",
                got=", ".join(tree) or "an empty object",
                expected="instances, or inputs",
            )
        wanted = self._read_wanted(tree["outputs"]) if "outputs" in tree else self._wanted
        parameters = read_parameters(tree["parameters"]) if "parameters" in tree else NO_PARAMETERS
        form: Form = self._row_form if "instances" in tree else "columns"
        inputs = (
            self._inputs.read_rows(tree["instances"], exact)
            if form != "columns"
            else self._inputs.read_columns(tree["inputs"], exact)
        )
        return InferenceRequest(inputs, wanted=wanted, parameters=parameters), form

    def _read_wanted(self, names: Any) -> tuple[str, ...]:
        known = self._signature.output_names
        if type(names) is not list or not names or len(set(map(show, names))) != len(names):
            refuse("outputs must be an array of different output names", "outputs", names)
        for position, name in enumerate(names):
            if name not in known:
                refuse(
                    f"unknown output {show(name)}{did_you_mean(name, known)}; "
                    f"the model has {', '.join(map(repr, known))}",
                    f"outputs[{position}]",
                    name,
                )
        return tuple(names)

    def _decode_npy(self, body: bytes) -> dict[str, np.ndarray]:
        if self._only is None:
            refuse(f"NPY carries one tensor, the model takes {len(self._specs)}; send application/x-npz", "", None)
        return {self._only.name: fit(read_npy(body), self._only)}

    def _decode_npz(self, body: bytes) -> dict[str, np.ndarray]:
        arrays = read_npz(body)
        explain_names(self._signature, arrays)
        inputs = {name: fit(array, self._specs[name]) for name, array in arrays.items()}
        self._inputs.check_rows(inputs)
        return inputs

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


def _never(body: bytes) -> np.ndarray | None:
    """The fast reader of a model that has none."""


def _small_example(signature: Signature, batchable: bool) -> dict[str, Any] | None:
    """The body to show beside an error, unless nobody could read it."""
    if sum(abs(prod(spec.shape)) for spec in signature.inputs) > _MAX_EXAMPLE_VALUES:
        return None
    return example_request(signature, batchable=batchable)
