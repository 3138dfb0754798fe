"""Hot: read a Vertex AI prediction request, ``{"instances": [...], "parameters": {...}}``. Pure: bytes in and out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from inferd.core.messages import InferenceRequest
from inferd.protocols.shared.compression import decompress
from inferd.protocols.shared.endpoint import Reply
from inferd.protocols.shared.json_body import JsonBody
from inferd.protocols.shared.json_reply import Form, JsonReply
from inferd.protocols.shared.media import JSON, body_type
from inferd.serving.servable import Servable

_TYPES = (JSON,)


class VertexCodec:
    """The codec of one version, compiled when it becomes ready. Safe to share between threads."""

    def __init__(self, servable: Servable, *, max_body_bytes: int) -> None:
        self._nan = servable.config.nan
        self._names = servable.default_outputs or servable.signature.output_names
        self._replies = {form: JsonReply(self._names, form, self._nan) for form in get_args(Form)}
        self._json = JsonBody(
            servable.signature,
            batchable=servable.batchable,
            nan=self._nan,
            select_outputs=servable.default_outputs,
            members=("instances", "parameters"),
        )
        self._max_body_bytes = max_body_bytes

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[InferenceRequest, Reply]:
        """See ``Codec`` of the shared endpoint. The answer is JSON whatever the platform accepts."""
        body_type(headers.get(b"content-type"), _TYPES)
        if b"content-encoding" in headers:
            body = decompress(body, headers[b"content-encoding"], self._max_body_bytes)
        request, form = self._json.read(body)
        return request, self._replies[form]
