"""Read ``ClassificationRequest`` and ``RegressionRequest``, and write their results. Pure.

Format: tensorflow_serving/apis/classification.proto and regression.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from inferd.core.errors import InvalidRequest
from inferd.core.messages import InferenceRequest
from inferd.protocols.grpc.errors import CONTENT_TYPE
from inferd.protocols.grpc.exchange import deadline_in
from inferd.protocols.grpc.schema import message_class, read_message
from inferd.protocols.grpc.wire import length_field
from inferd.protocols.tfserving.grpc.examples import read_examples
from inferd.protocols.tfserving.grpc.spec import spec_bytes
from inferd.protocols.tfserving.results import (
    ClassifyPlan,
    as_floats,
    classes_of,
    classify_plan,
    regress_output,
    values_of,
)
from inferd.protocols.tfserving.signatures import DEFAULT, signature_key
from inferd.serving.servable import Servable

_PACKAGE = "tensorflow.serving"


class ClassifyCodec:
    """The ``Classify`` codec of one version."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[InferenceRequest, _Classes]:
        """See ``Codec`` of the shared endpoint."""
        key, inputs, spec = _read(self._servable, "ClassificationRequest", body)
        plan = classify_plan(self._servable.signatures[key] if key else self._servable.signature, self._labels())
        request = InferenceRequest(inputs, wanted=plan.outputs, signature=key, deadline_ns=deadline_in(headers))
        return request, _Classes(plan, spec, self._servable.config.nan == "error")

    def _labels(self) -> tuple[Any, ...]:
        return self._servable.metadata.classes


class RegressCodec:
    """The ``Regress`` codec of one version."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[InferenceRequest, _Values]:
        """See ``Codec`` of the shared endpoint."""
        key, inputs, spec = _read(self._servable, "RegressionRequest", body)
        output = regress_output(self._servable.signatures[key] if key else self._servable.signature)
        request = InferenceRequest(inputs, wanted=(output,), signature=key, deadline_ns=deadline_in(headers))
        return request, _Values(output, spec, self._servable.config.nan == "error")


def _read(servable: Servable, kind: str, body: bytes) -> tuple[str, dict[str, np.ndarray], bytes]:
    """The signature's key, the inputs, and the answer's ``model_spec`` field."""
    message = read_message(f"{_PACKAGE}.{kind}", body)
    key = signature_key(message.model_spec.signature_name, servable.signatures)
    if not servable.batchable:
        raise InvalidRequest("this model takes no batches, so it has no rows to classify or regress; use Predict")
    inputs = read_examples(message.input, servable.signatures[key] if key else servable.signature)
    return key, inputs, length_field(2, spec_bytes(servable.name, servable.version, key or DEFAULT))


class _Classes:
    __slots__ = ("_finite", "_plan", "_spec", "content_type")

    def __init__(self, plan: ClassifyPlan, spec: bytes, finite: bool) -> None:
        self.content_type = CONTENT_TYPE
        self._plan = plan
        self._spec = spec
        self._finite = finite

    def encode(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        """See ``Reply`` of the shared endpoint."""
        labels, scores = classes_of(self._plan, outputs)
        result = message_class(f"{_PACKAGE}.ClassificationResult")()
        for names, row in zip(labels, scores, strict=True):
            classes = result.classifications.add().classes
            for label, score in zip(names, as_floats(row, self._plan.scores, finite=self._finite), strict=True):
                classes.add(label=label, score=score)
        return length_field(1, result.SerializeToString()) + self._spec, b""


class _Values:
    __slots__ = ("_finite", "_output", "_spec", "content_type")

    def __init__(self, output: str, spec: bytes, finite: bool) -> None:
        self.content_type = CONTENT_TYPE
        self._output = output
        self._spec = spec
        self._finite = finite

    def encode(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        """See ``Reply`` of the shared endpoint."""
        result = message_class(f"{_PACKAGE}.RegressionResult")()
        for value in as_floats(values_of(self._output, outputs), self._output, finite=self._finite):
            result.regressions.add(value=value)
        return length_field(1, result.SerializeToString()) + self._spec, b""
