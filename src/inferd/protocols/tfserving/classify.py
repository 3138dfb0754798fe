"""Hot: read the bodies of ``:classify`` and ``:regress`` and write their results. Pure: bytes in, bytes out.

Format: TF Serving, "RESTful API", Classify and Regress.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from inferd.core.config import NanPolicy
from inferd.core.messages import InferenceRequest
from inferd.core.tensors import Signature
from inferd.protocols.shared.compression import decompress
from inferd.protocols.shared.endpoint import Reply
from inferd.protocols.shared.json_inputs import read_body
from inferd.protocols.shared.json_members import did_you_mean, refuse
from inferd.protocols.shared.json_tensors import kind_of, show
from inferd.protocols.tfserving.examples import Examples
from inferd.protocols.tfserving.results import (
    ClassifyPlan,
    as_floats,
    classes_of,
    classify_plan,
    regress_output,
    values_of,
    write_json,
)
from inferd.protocols.tfserving.signatures import signature_key
from inferd.serving.servable import Servable

_MEMBERS = ("signature_name", "context", "examples")
_JSON = b"application/json"


class ExamplesCodec:
    """What classifying and regressing have in common. Safe to share between threads."""

    def __init__(self, servable: Servable, *, max_body_bytes: int) -> None:
        self._nan: NanPolicy = servable.config.nan
        self._max_body_bytes = max_body_bytes
        self._signatures = {**servable.signatures, "": servable.signature}
        self._labels = servable.metadata.classes
        self._examples = {
            name: Examples(signature, batchable=servable.batchable, nan=self._nan)
            for name, signature in self._signatures.items()
        }

    def read(self, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[dict[str, np.ndarray], str]:
        """The inputs, and the key of the signature. Raises ``MalformedRequest`` and ``InvalidRequest``."""
        if b"content-encoding" in headers:
            body = decompress(body, headers[b"content-encoding"], self._max_body_bytes)
        return read_body(body, self._nan, self._build)

    def _build(self, tree: Any, exact: bool) -> tuple[dict[str, np.ndarray], str]:
        if type(tree) is not dict:
            refuse(f"the body is {kind_of(tree)} where an object with 'examples' is expected", "", tree)
        for member in tree:
            if member not in _MEMBERS:
                refuse(f"unknown member {show(member)}{did_you_mean(member, _MEMBERS)}", member, tree[member])
        key = signature_key(tree.get("signature_name", ""), [name for name in self._signatures if name])
        examples, context = tree.get("examples"), tree.get("context", {})
        if type(examples) is not list or not examples:
            refuse("examples must be an array of at least one object", "examples", examples)
        for position, example in enumerate(examples):
            if type(example) is not dict:
                refuse(f"examples[{position}] is {kind_of(example)}, not an object", f"examples[{position}]", example)
        if type(context) is not dict:
            refuse(f"context is {kind_of(context)} where an object is expected", "context", context)
        return self._examples[key].read(examples, context, exact), key

    @property
    def finite(self) -> bool:
        """Whether what is not finite is an error."""
        return self._nan == "error"

    def classify_plan(self, key: str) -> ClassifyPlan:
        """How the signature is classified by. Raises ``InvalidRequest``."""
        return classify_plan(self._signatures[key], self._labels)

    def signature(self, key: str) -> Signature:
        """The signature of that key."""
        return self._signatures[key]


class ClassifyCodec:
    """The ``:classify`` codec of one version."""

    def __init__(self, examples: ExamplesCodec) -> None:
        self._examples = examples

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[InferenceRequest, Reply]:
        """See ``Codec`` of the shared endpoint."""
        inputs, key = self._examples.read(body, headers)
        plan = self._examples.classify_plan(key)
        return InferenceRequest(inputs, wanted=plan.outputs, signature=key), _Classes(plan, self._examples.finite)


class RegressCodec:
    """The ``:regress`` codec of one version."""

    def __init__(self, examples: ExamplesCodec) -> None:
        self._examples = examples

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[InferenceRequest, Reply]:
        """See ``Codec`` of the shared endpoint."""
        inputs, key = self._examples.read(body, headers)
        output = regress_output(self._examples.signature(key))
        return InferenceRequest(inputs, wanted=(output,), signature=key), _Values(output, self._examples.finite)


class _Classes:
    """``{"results": [[["label", score], ...], ...]}``."""

    __slots__ = ("_finite", "_plan", "content_type")

    def __init__(self, plan: ClassifyPlan, finite: bool) -> None:
        self.content_type = _JSON
        self._plan = plan
        self._finite = finite

    def encode(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        """See ``Reply`` of the shared endpoint."""
        labels, scores = classes_of(self._plan, outputs)
        return write_json(
            [
                [list(pair) for pair in zip(names, as_floats(row, self._plan.scores, finite=self._finite), strict=True)]
                for names, row in zip(labels, scores, strict=True)
            ]
        ), b""


class _Values:
    """``{"results": [value, ...]}``."""

    __slots__ = ("_finite", "_output", "content_type")

    def __init__(self, output: str, finite: bool) -> None:
        self.content_type = _JSON
        self._output = output
        self._finite = finite

    def encode(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        """See ``Reply`` of the shared endpoint."""
        return write_json(as_floats(values_of(self._output, outputs), self._output, finite=self._finite)), b""
