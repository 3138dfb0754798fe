"""Hot: read an ``/invocations`` body of MLflow's scoring protocol into a request. Pure: bytes in, bytes out.

Format: MLflow, "Deploy MLflow Model as a Local Inference Server". Of its content types Parquet is not read here.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from inferd.core.errors import InvalidRequest
from inferd.core.messages import NO_PARAMETERS, InferenceRequest
from inferd.protocols.mlflow.columns import ColumnPlan
from inferd.protocols.mlflow.csv_frame import read_csv
from inferd.protocols.mlflow.frame import FrameInputs
from inferd.protocols.shared.compression import decompress
from inferd.protocols.shared.endpoint import Reply
from inferd.protocols.shared.json_fast import FastRead, compile_fast
from inferd.protocols.shared.json_inputs import JsonInputs, read_body
from inferd.protocols.shared.json_members import did_you_mean, read_parameters, refuse
from inferd.protocols.shared.json_reply import Form, JsonReply
from inferd.protocols.shared.json_tensors import kind_of, show
from inferd.protocols.shared.media import JSON, body_type
from inferd.serving.servable import Servable

CSV = b"text/csv"
_TYPES = (JSON, CSV)
_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_MEMBERS = (*_FORMS, "params")
_UNNAMED = "predictions"


class MLflowCodec:
    """The codec of one version, compiled when it becomes ready. Safe to share between threads.

    Rows are taken by each model whose inputs may have any number of them, whether or not it is batchable: then those of
    one request stay alone, as at MLflow's own server.
    """

    def __init__(self, servable: Servable, *, max_body_bytes: int) -> None:
        signature = servable.signature
        self._takes_rows = all(spec.shape[:1] == (-1,) for spec in signature.inputs)
        self._nan = servable.config.nan
        self._wanted = servable.default_outputs
        self._max_body_bytes = max_body_bytes
        self._plan = ColumnPlan(signature, servable.metadata.feature_names)
        self._json = JsonInputs(signature, batchable=servable.batchable, nan=self._nan)
        by_row = JsonInputs(signature, batchable=self._takes_rows, nan=self._nan)
        self._frames = FrameInputs(by_row, self._json, self._plan, servable.metadata.binary_inputs)
        self._fast = _fast_readers(servable) if self._takes_rows else ()
        self._name = signature.inputs[0].name if signature.inputs else ""
        self._replies = _replies(servable)
        self._form: Form = "rows" if self._takes_rows else "whole"

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[InferenceRequest, Reply]:
        """See ``Codec`` of the shared endpoint. The answer is JSON whatever the caller accepts."""
        content = body_type(headers.get(b"content-type"), _TYPES)
        if b"content-encoding" in headers:
            body = decompress(body, headers[b"content-encoding"], self._max_body_bytes)
        if content == CSV:
            self._require_rows("CSV")
            return self._request(read_csv(body, self._plan)), self._replies[self._form]
        for read in self._fast:
            array = read(body)
            if array is not None:
                return self._request({self._name: array}), self._replies[self._form]
        return read_body(body, self._nan, self._build)

    def _request(
        self, inputs: Mapping[str, np.ndarray], parameters: Mapping[str, Any] = NO_PARAMETERS
    ) -> InferenceRequest:
        return InferenceRequest(inputs, wanted=self._wanted, parameters=parameters)

    def _build(self, tree: Any, exact: bool) -> tuple[InferenceRequest, Reply]:
        forms = ", ".join(map(repr, _FORMS))
        if type(tree) is not dict:
            refuse(f"the body is {kind_of(tree)} where an object with exactly one of {forms} is expected", "", tree)
        for member in tree:
            if member not in _MEMBERS:
                refuse(f"unknown member {show(member)}{did_you_mean(member, _MEMBERS)}", member, tree[member])
        given = [form for form in _FORMS if form in tree]
        if len(given) != 1:
            got = ", ".join(given) or "none of them"
            raise InvalidRequest(f"the body must have exactly one of {forms}; it has {got}", got=got)
        params = tree.get("params")
        parameters = read_parameters(params, "params") if params is not None else NO_PARAMETERS
        inputs, form = self._read(given[0], tree[given[0]], exact)
        return self._request(inputs, parameters), self._replies[form]

    def _read(self, form: str, value: Any, exact: bool) -> tuple[dict[str, np.ndarray], Form]:
        if self._takes_rows:
            readers: dict[str, Callable[[Any, bool], dict[str, np.ndarray]]] = {
                "dataframe_split": self._frames.read_split,
                "dataframe_records": self._frames.read_records,
                "instances": self._frames.read_instances,
                "inputs": self._frames.read_inputs,
            }
            return readers[form](value, exact), self._form
        if form == "instances":
            return self._json.read_rows(value, exact), "one"
        if form != "inputs":
            self._require_rows(form)
        return self._json.read_columns(value, exact), "whole"

    def _require_rows(self, what: str) -> None:
        if not self._takes_rows:
            raise InvalidRequest(
                f"this model does not take rows, which {what} holds; send its whole tensors as 'inputs'"
            )


def _fast_readers(servable: Servable) -> tuple[FastRead, ...]:
    """For one fixed-width input, the two forms that are a matrix and nothing else."""
    if len(servable.signature.inputs) != 1:
        return ()
    made = (compile_fast(servable.signature.inputs[0], key) for key in ("inputs", "instances"))
    return tuple(read for read in made if read is not None)


def _replies(servable: Servable) -> dict[Form, Reply]:
    """One output is bare, unless an MLflow model gave it a name: then its answer is a data frame, here as there."""
    names = servable.default_outputs or servable.signature.output_names
    by_name = servable.metadata.platform == "mlflow" and names != (_UNNAMED,)
    made = {form: JsonReply(names, form, servable.config.nan, by_name=by_name) for form in get_args(Form)}
    replies: dict[Form, Reply] = {**made}
    if not servable.batchable:
        replies["rows"] = _FrameReply(names, made["rows"], made["whole"])
    if binary := servable.metadata.binary_outputs:
        return {form: _Base64Reply(binary, reply) for form, reply in replies.items()}
    return replies


class _Base64Reply:
    """The outputs ``binary`` as MLflow writes bytes: base64, broken into lines."""

    def __init__(self, binary: Sequence[str], reply: Reply) -> None:
        self.content_type = reply.content_type
        self._binary = binary
        self._reply = reply

    def encode(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        """See ``Reply`` of the shared endpoint."""
        written = {name: _base64(outputs[name]) for name in self._binary if name in outputs}
        return self._reply.encode({**outputs, **written})


def _base64(array: np.ndarray) -> np.ndarray:
    """Text for BYTES; an item that is text after all is taken as its UTF-8."""
    items = np.empty(array.size, dtype=object)
    items[:] = [base64.encodebytes(item.encode() if isinstance(item, str) else item) for item in array.ravel().tolist()]
    return items.reshape(array.shape)


class _FrameReply:
    """Row by row where the outputs have as many, which a model that is not batchable does not promise; else whole."""

    def __init__(self, names: tuple[str, ...], rows: JsonReply, whole: JsonReply) -> None:
        self.content_type = rows.content_type
        self._names = names
        self._rows = rows
        self._whole = whole

    def encode(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        """See ``Reply`` of the shared endpoint."""
        lengths = {np.shape(outputs[name])[:1] for name in self._names if name in outputs}
        return (self._rows if len(lengths) == 1 and lengths != {()} else self._whole).encode(outputs)
