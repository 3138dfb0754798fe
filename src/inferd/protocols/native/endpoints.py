"""What the native protocol brings to a hot endpoint: its name, its error shape, its codec for a version."""

from __future__ import annotations

from inferd.protocols.native.codec import NativeCodec
from inferd.protocols.native.problem import CONTENT_TYPE, problem
from inferd.protocols.shared.endpoint import Binding, Dialect
from inferd.serving.servable import Servable

PROTOCOL = "native"
DIALECT = Dialect(PROTOCOL, CONTENT_TYPE, lambda error, request_id: problem(error, request_id=request_id))


def bind(servable: Servable) -> Binding:
    """Compile the codec of a version."""
    codec = NativeCodec(
        servable.signature,
        batchable=servable.batchable,
        nan=servable.config.nan,
        select_outputs=servable.default_outputs,
    )
    return Binding(servable, codec)
