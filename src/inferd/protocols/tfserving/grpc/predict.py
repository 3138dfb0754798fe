"""Hot: read a ``PredictRequest`` to tensors, and write the ``PredictResponse``. Pure.

Format: tensorflow_serving/apis/predict.proto.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from inferd.core.messages import InferenceRequest
from inferd.protocols.grpc.errors import CONTENT_TYPE
from inferd.protocols.grpc.exchange import deadline_in
from inferd.protocols.grpc.schema import read_message
from inferd.protocols.grpc.wire import length_field
from inferd.protocols.shared.json_write import output_of
from inferd.protocols.tfserving.grpc.spec import spec_bytes
from inferd.protocols.tfserving.grpc.tensors import read_tensor, write_tensor
from inferd.protocols.tfserving.signatures import DEFAULT, signature_key
from inferd.serving.servable import Servable


class PredictCodec:
    """The ``Predict`` codec of one version. Safe to share between threads."""

    def __init__(self, servable: Servable) -> None:
        self._signatures = servable.signatures
        self._outputs = {
            name: signature.output_names for name, signature in {**servable.signatures, "": servable.signature}.items()
        }
        self._wanted = servable.default_outputs
        self._specs = {
            key: length_field(2, spec_bytes(servable.name, servable.version, key or DEFAULT)) for key in self._outputs
        }

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[InferenceRequest, _PredictReply]:
        """See ``Codec`` of the shared endpoint."""
        message = read_message("tensorflow.serving.PredictRequest", body)
        key = signature_key(message.model_spec.signature_name, self._signatures)
        inputs = {name: read_tensor(tensor, name) for name, tensor in message.inputs.items()}
        wanted = tuple(message.output_filter) or (self._wanted if not key else ())
        request = InferenceRequest(inputs, wanted=wanted, signature=key, deadline_ns=deadline_in(headers))
        return request, _PredictReply(wanted or self._outputs[key], self._specs[key])


class _PredictReply:
    """``spec`` is the response's ``model_spec`` field, encoded."""

    __slots__ = ("_names", "_spec", "content_type")

    def __init__(self, names: tuple[str, ...], spec: bytes) -> None:
        self.content_type = CONTENT_TYPE
        self._names = names
        self._spec = spec

    def encode(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        """See ``Reply`` of the shared endpoint."""
        entries = [
            length_field(
                1, length_field(1, name.encode()) + length_field(2, write_tensor(output_of(outputs, name), name))
            )
            for name in self._names
        ]
        return b"".join(entries) + self._spec, b""
