"""Hot: read an embeddings request and write its answer. Pure: bytes in, bytes out.

Reference: OpenAI, API reference, "Create embeddings". A model embeds text when it is batchable, takes one BYTES value a
row and gives one row of floats for each; of a model with several outputs, ``model.toml`` selects that one.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from inferd.core.config import NanPolicy
from inferd.core.errors import ExecutionFailed, InvalidRequest
from inferd.core.messages import InferenceRequest
from inferd.core.tensors import TensorSpec
from inferd.protocols.shared.json_inputs import read_body
from inferd.protocols.shared.json_members import did_you_mean, refuse
from inferd.protocols.shared.json_reply import cut_rows
from inferd.protocols.shared.json_tensors import is_float, kind_of, show
from inferd.protocols.shared.json_write import output_of, write_tensor
from inferd.serving.servable import Servable

_MEMBERS = ("input", "model", "encoding_format", "dimensions", "user")
_FORMATS = ("float", "base64")
MAX_INPUTS = 2048


class EmbeddingsCodec:
    """The codec of one version, made when it becomes ready. Safe to share between threads."""

    def __init__(self, servable: Servable) -> None:
        signature = servable.signature
        names = servable.default_outputs or signature.output_names
        outputs = [spec for spec in signature.outputs if spec.name in names]
        self._name = servable.name
        self._nan: NanPolicy = servable.config.nan
        self._wanted = servable.default_outputs
        self._embeds = (
            servable.batchable
            and len(signature.inputs) == len(outputs) == 1
            and _takes_text(signature.inputs[0])
            and is_float(outputs[0])
            and len(outputs[0].shape) == 2
        )
        if self._embeds:
            self._input, self._output = signature.inputs[0], outputs[0]

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[InferenceRequest, EmbeddingsReply]:
        """See ``Codec`` of the shared endpoint."""
        if not self._embeds:
            raise InvalidRequest(
                f"the model {self._name!r} embeds no text: that takes one BYTES value and gives floats, row by row",
                path="model",
            )
        return read_body(body, "error", self._build)

    def _build(self, tree: Any, exact: bool) -> tuple[InferenceRequest, EmbeddingsReply]:
        if type(tree) is not dict:
            refuse(f"the body is {kind_of(tree)} where an object with 'input' and 'model' is expected", "", tree)
        for member in tree:
            if member not in _MEMBERS:
                refuse(f"unknown member {show(member)}{did_you_mean(member, _MEMBERS)}", member, tree[member])
        texts = _texts(tree.get("input"))
        form = tree.get("encoding_format") or "float"
        if form not in _FORMATS:
            refuse(f"encoding_format is {show(form)}; it takes float or base64", "encoding_format", form)
        self._check_dimensions(tree.get("dimensions"))
        array = np.empty(len(texts), dtype=object)
        array[:] = [text.encode() for text in texts]
        array = array.reshape(-1, *(1 for _ in self._input.shape[1:]))
        request = InferenceRequest({self._input.name: array}, wanted=self._wanted)
        words = sum(len(text.split()) for text in texts)
        return request, EmbeddingsReply(self._name, self._output.name, form, words, self._nan)

    def _check_dimensions(self, dimensions: Any) -> None:
        width = self._output.shape[1]
        if dimensions is not None and (type(dimensions) is not int or dimensions != width):
            have = f"has {width} dimensions" if width > 0 else "has dimensions of its own"
            refuse(f"dimensions is {show(dimensions)}; the model {have}, no others", "dimensions", dimensions)


class EmbeddingsReply:
    """A list of embeddings, as JSON numbers or as base64 of little-endian float32. ``words`` stands for the tokens,
    which are the model's own affair."""

    __slots__ = ("_form", "_model", "_nan", "_output", "_words", "content_type")

    def __init__(self, model: str, output: str, form: str, words: int, nan: NanPolicy) -> None:
        self.content_type = b"application/json"
        self._model = model
        self._output = output
        self._form = form
        self._words = words
        self._nan = nan

    def encode(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        """See ``Reply`` of the shared endpoint."""
        array = output_of(outputs, self._output)
        if array.ndim != 2:
            raise ExecutionFailed(f"output {self._output!r} has the shape {list(array.shape)}, not one row a text")
        if self._form == "base64":
            rows = [b'"%b"' % base64.b64encode(row.tobytes()) for row in np.asarray(array, dtype="<f4")]
        else:
            rows = cut_rows(array, write_tensor(array, self._output, self._nan))
        entries = [b'{"object":"embedding","index":%d,"embedding":%b}' % (index, row) for index, row in enumerate(rows)]
        usage = b'{"prompt_tokens":%d,"total_tokens":%d}' % (self._words, self._words)
        return (
            b'{"object":"list","data":[%b],"model":%b,"usage":%b}'
            % (b",".join(entries), orjson.dumps(self._model), usage)
        ), b""


def read_model(body: bytes) -> str:
    """The model that a request names. Raises ``InvalidRequest`` and ``MalformedRequest``."""

    def named(tree: Any, exact: bool) -> str:
        name = tree.get("model") if type(tree) is dict else None
        if type(name) is not str or not name:
            raise InvalidRequest("model must be the name of a model", path="model")
        return name

    return read_body(body, "error", named)


def _takes_text(spec: TensorSpec) -> bool:
    return spec.datatype == "BYTES" and len(spec.shape) > 0 and all(size in (-1, 1) for size in spec.shape[1:])


def _texts(given: Any) -> list[str]:
    """The texts to embed. Raises ``InvalidRequest``, also for tokens: which they are, only their model knows."""
    texts = [given] if type(given) is str else given
    if type(texts) is not list or not 0 < len(texts) <= MAX_INPUTS:
        refuse(f"input is {show(given)}; it takes a string, or an array of 1 to {MAX_INPUTS} of them", "input", given)
    for index, text in enumerate(texts):
        if type(text) is not str or not text:
            reason = "tokens are not taken" if type(text) in (int, list) else "it takes text that is not empty"
            refuse(f"input[{index}] is {show(text)}; {reason}", f"input[{index}]", text)
    return texts
