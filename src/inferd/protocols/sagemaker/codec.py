"""Hot: read an ``/invocations`` body into a request and choose how its answer is written. Pure: bytes in, bytes out.

Contract: Amazon SageMaker AI, "Custom inference code with hosting services"; it leaves the bodies to the container, so
these are the content types of the SageMaker SDK's serialisers: JSON, JSON Lines, CSV without a header, NPY.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np
import orjson

from inferd.core.errors import InferdError, InvalidRequest, MalformedRequest, NotAcceptable
from inferd.core.messages import InferenceRequest
from inferd.protocols.sagemaker.reply import CsvReply, JsonLinesReply
from inferd.protocols.shared.compression import decompress
from inferd.protocols.shared.csv_inputs import CsvInputs
from inferd.protocols.shared.endpoint import Reply
from inferd.protocols.shared.json_body import JsonBody
from inferd.protocols.shared.json_exact import TooDeep, count_strings, read_exact
from inferd.protocols.shared.json_members import refuse
from inferd.protocols.shared.json_reply import Form, JsonReply
from inferd.protocols.shared.json_tensors import Doubt
from inferd.protocols.shared.media import JSON, NPY, accepted_types, body_type
from inferd.protocols.shared.npy import fit, read_npy
from inferd.protocols.shared.npy_reply import NpyReply
from inferd.serving.servable import Servable

CSV, JSON_LINES = b"text/csv", b"application/jsonlines"
TYPES = (JSON, JSON_LINES, CSV, NPY)


class SageMakerCodec:
    """The codec of one version, compiled when it becomes ready. Safe to share between threads."""

    def __init__(self, servable: Servable, *, max_body_bytes: int) -> None:
        signature, batchable = servable.signature, servable.batchable
        self._nan = servable.config.nan
        self._wanted = servable.default_outputs
        self._names = self._wanted or signature.output_names
        self._plain = {form: JsonReply(self._names, form, self._nan) for form in get_args(Form)}
        self._only = signature.inputs[0] if len(signature.inputs) == 1 else None
        self._json = JsonBody(signature, batchable=batchable, nan=self._nan, select_outputs=self._wanted, bare=True)
        self._csv = CsvInputs(signature, batchable=batchable)
        self._row_form: Form = "rows" if batchable else "one"
        self._max_body_bytes = max_body_bytes
        self._readers: dict[bytes, Callable[[bytes], tuple[InferenceRequest, Form]]] = {
            JSON: self._json.read,
            JSON_LINES: self._read_lines,
            CSV: lambda body: self._whole(self._csv.read(body)),
            NPY: self._read_npy,
        }

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[InferenceRequest, Reply]:
        """See ``Codec`` of the shared endpoint."""
        content = body_type(headers.get(b"content-type"), TYPES)
        accepted = accepted_types(headers.get(b"accept"), TYPES)
        if b"content-encoding" in headers:
            body = decompress(body, headers[b"content-encoding"], self._max_body_bytes)
        request, form = self._readers[content](body)
        return request, self._reply(accepted, form, request.wanted or self._names)

    def _whole(self, inputs: Mapping[str, np.ndarray]) -> tuple[InferenceRequest, Form]:
        return InferenceRequest(inputs, wanted=self._wanted), self._row_form

    def _read_npy(self, body: bytes) -> tuple[InferenceRequest, Form]:
        if self._only is None:
            refuse("NPY carries one tensor, this model takes several; send JSON", "", None)
        return self._whole({self._only.name: fit(read_npy(body), self._only)})

    def _read_lines(self, body: bytes) -> tuple[InferenceRequest, Form]:
        """One instance a line; by ``orjson``, and where that is in doubt by the exact reader."""
        lines = [line for line in body.splitlines() if line.strip()]
        try:
            rows = [orjson.loads(line) for line in lines]
            if body.count(b'"') == 2 * count_strings(rows):
                return self._whole(self._json.inputs.read_rows(rows, exact=False))
        except (ValueError, Doubt, TooDeep, InferdError):
            pass
        return self._whole(self._json.inputs.read_rows(self._exact_lines(lines), exact=True))

    def _exact_lines(self, lines: list[bytes]) -> list[Any]:
        rows = []
        for number, line in enumerate(lines, 1):
            try:
                rows.append(read_exact(line, non_finite=self._nan != "error"))
            except MalformedRequest as error:
                raise MalformedRequest(f"line {number}: {error.message}", **error.details) from None
        return rows

    def _reply(self, accepted: tuple[bytes, ...], form: Form, names: tuple[str, ...]) -> Reply:
        """The first accepted type that can carry the answer."""
        kind = next((each for each in accepted if each != NPY or len(names) == 1), None)
        if kind is None:
            raise NotAcceptable(f"{NPY.decode()} carries one output and this answer has {len(names)}; accept JSON")
        if kind == JSON:
            return self._plain[form] if names is self._names else JsonReply(names, form, self._nan)
        if form == "columns":
            raise InvalidRequest(f"whole tensors ('inputs') are answered in JSON, not in {kind.decode()}")
        if kind == NPY:
            return NpyReply(names[0])
        return CsvReply(names) if kind == CSV else JsonLinesReply(names, self._nan)
