"""Which model, version and signature a message names."""

from __future__ import annotations

from typing import Any

from inferd.abc import Target
from inferd.core.errors import MalformedRequest
from inferd.protocols.grpc.schema import message_class, read_message
from inferd.protocols.grpc.wire import message_field

SPEC = "tensorflow.serving.ModelSpec"
_SPEC_FIELD = 1  # of every request that names a model


def target_in(body: bytes) -> Target:
    """The target of a request, of which only its ``model_spec`` is read. Raises ``MalformedRequest``."""
    return target_of(read_message(SPEC, message_field(body, _SPEC_FIELD)))


def target_of(spec: Any) -> Target:
    """The target that a ``ModelSpec`` names. Raises ``MalformedRequest`` without a name."""
    if not spec.name:
        raise MalformedRequest("model_spec names no model")
    choice = spec.WhichOneof("version_choice")
    if choice is None:
        return Target(spec.name)
    return Target(spec.name, spec.version_label if choice == "version_label" else spec.version.value)


def spec_bytes(name: str, version: int, signature_name: str) -> bytes:
    """A ``ModelSpec`` that says who answered, encoded."""
    spec = message_class(SPEC)(name=name, signature_name=signature_name)
    spec.version.value = version
    encoded: bytes = spec.SerializeToString()
    return encoded
