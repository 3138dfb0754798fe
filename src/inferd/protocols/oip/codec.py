"""Hot: read a V2 inference request and choose how its answer is written. Pure: bytes in, bytes out.

A client sends the same JSON again and again, but for the values and the id. What surrounds them is read once, by the
exact reader, and remembered as a ``Plan``; then a request costs a look-up and the reading of its values.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson

from inferd.core.config import NanPolicy
from inferd.core.errors import InferdError, InvalidRequest, MalformedRequest
from inferd.core.messages import InferenceRequest
from inferd.core.tensors import TensorSpec
from inferd.protocols.oip.binary import read_bytes
from inferd.protocols.oip.json_data import compile_data
from inferd.protocols.oip.plan import IN_JSON, Plan, Planner, TensorPlan
from inferd.protocols.oip.reply import OipReply
from inferd.protocols.shared.compression import accepted_encoding, decompress
from inferd.protocols.shared.json_exact import TooDeep, count_strings, read_exact
from inferd.protocols.shared.json_fast import FastRead
from inferd.protocols.shared.json_members import prefixed
from inferd.protocols.shared.json_tensors import Doubt, explain, kind_of, to_array
from inferd.protocols.shared.regions import CallerMemory, SharedRegions

HEADER_LENGTH = b"inference-header-content-length"
_DATA = b'"data":'
_ID = re.compile(rb'"id": ?"([^"\\\x00-\x1f\x7f-\xff]{0,128})"')
# Stand for the id and the values in a remembered text; nobody outside can have sent them.
_ID_TOKEN, _DATA_TOKEN = (secrets.token_hex(8) for _ in range(2))
_ID_BYTES = _ID_TOKEN.encode()
_DATA_MEMBER = b'"data":"%b"' % _DATA_TOKEN.encode()
_MAX_KNOWN = 64
_MAX_KNOWN_BYTES = 4096


@dataclass(frozen=True, slots=True)
class KnownText:
    """A remembered plan. ``read`` reads its one JSON tensor; None when all its tensors are binary. ``head`` and
    ``tail`` stand around that tensor's values; ``head`` is empty when the text has an id, which differs each time."""

    plan: Plan
    read: FastRead | None
    head: bytes = b""
    tail: bytes = b""


class OipCodec:
    """The V2 codec of one version, made when it becomes ready. Safe to share between threads."""

    def __init__(
        self, planner: Planner, *, nan: NanPolicy, max_body_bytes: int, regions: SharedRegions | None = None
    ) -> None:
        self._planner = planner
        self._regions = regions
        self._nan: NanPolicy = nan
        self._max_body_bytes = max_body_bytes
        self._known: dict[bytes, KnownText | Literal[False]] = {}
        self._last: KnownText | None = None

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[InferenceRequest, OipReply]:
        """See ``Codec`` of the shared endpoint. Content types are not looked at, as other servers do not either."""
        if b"content-encoding" in headers:
            body = decompress(body, headers[b"content-encoding"], self._max_body_bytes)
        accept = headers.get(b"accept-encoding")
        encoding = accepted_encoding(accept) if accept is not None else b""
        length = headers.get(HEADER_LENGTH)
        memory = CallerMemory(self._regions, headers) if self._regions is not None else None
        if length is None:
            plan, inputs, id_member = self._decode_known(body) or self._decode_any(body, len(body), memory)
        elif length == b"0":
            plan, body = self._planner.raw(body)
            inputs, id_member = self._tensors(plan, body, 0, None, exact=True), b""
        else:
            plan, inputs, id_member = self._decode_binary(body, _header_bytes(length, body), memory)
        request = InferenceRequest(inputs, wanted=plan.wanted, parameters=plan.parameters, deadline_ns=plan.timeout_ns)
        if id_member or encoding or memory is not None:
            return request, OipReply(plan.form, id_member, encoding, memory)
        return request, plan.reply

    def _decode_binary(
        self, body: bytes, header_bytes: int, memory: CallerMemory | None
    ) -> tuple[Plan, dict[str, np.ndarray], bytes]:
        known, id_member = self._recall(body[:header_bytes])
        if not known or known.read is not None:
            return self._decode_any(body, header_bytes, memory)
        return known.plan, self._tensors(known.plan, body, header_bytes, memory, exact=True), id_member

    def _decode_known(self, body: bytes) -> tuple[Plan, dict[str, np.ndarray], bytes] | None:
        """By a remembered text around the values of the one tensor; None when that cannot be proved to be right."""
        last = self._last
        # What stands between the same two texts as last time is the array, if it is one at all.
        if last is not None and last.read and body.startswith(last.head) and body.endswith(last.tail):
            array = last.read(body[len(last.head) : len(body) - len(last.tail)])
            if array is not None:
                return last.plan, {last.plan.tensors[0].name: array}, b""
        head, found, tail = body.partition(_DATA)
        # Numbers hold neither brace nor quotation mark: the array ends at the last bracket before either.
        end = tail.find(b"}")
        quote = tail.find(b'"', 0, end)
        close = tail.rfind(b"]", 0, end if quote < 0 else quote) + 1
        rest = tail[close:]
        if not found or close == 0 or _DATA in rest:
            return None
        known, id_member = self._recall(head + _DATA_MEMBER + rest)
        array = known.read(tail[:close]) if known and known.read else None
        if not known or array is None:
            return None
        if known.head:
            self._last = known
        return known.plan, {known.plan.tensors[0].name: array}, id_member

    def _recall(self, text: bytes) -> tuple[KnownText | Literal[False], bytes]:
        """What is remembered of a JSON text, and its id as it was written; False when it has to be read in full."""
        id_member = b""
        if b'"id"' in text:
            match = _ID.search(text)
            if match is None:
                return False, b""
            id_member = b'"id":"%b",' % match[1]
            text = b"%b%b%b" % (text[: match.start(1)], _ID_BYTES, text[match.end(1) :])
        known = self._known.get(text)
        if known is None and len(text) <= _MAX_KNOWN_BYTES:
            known = self._learn(text)
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[text] = known
        return known or False, id_member

    def _learn(self, text: bytes) -> KnownText | Literal[False]:
        try:
            plan = self._planner.plan(read_exact(text, non_finite=False))
        except InferdError:
            return False  # read in full, it fails again, with the right offsets
        if plan.request_id != (_ID_TOKEN if _ID_BYTES in text else None):
            return False  # what looked like the id stands elsewhere
        if all(tensor.size_bytes != IN_JSON for tensor in plan.tensors):  # binary, or in shared memory
            return KnownText(plan, None)
        tensor = plan.tensors[0]
        read = compile_data(tensor.datatype, tensor.shape)
        if len(plan.tensors) > 1 or tensor.data != _DATA_TOKEN or read is None:
            return False
        head, _, tail = text.partition(_DATA_MEMBER)
        return KnownText(plan, read, head + _DATA if plan.request_id is None else b"", tail)

    def _decode_any(
        self, body: bytes, header_bytes: int, memory: CallerMemory | None
    ) -> tuple[Plan, dict[str, np.ndarray], bytes]:
        """By ``orjson``; what does not fit or could be read in two ways, the exact reader decides."""
        text = body if header_bytes == len(body) else body[:header_bytes]
        try:
            tree = orjson.loads(text)
            if text.count(b'"') == 2 * count_strings(tree):
                return self._build(tree, body, header_bytes, memory, exact=False)
        except (ValueError, Doubt, TooDeep, InferdError):
            pass
        tree = read_exact(text, non_finite=self._nan != "error")
        return self._build(tree, body, header_bytes, memory, exact=True)

    def _build(
        self, tree: Any, body: bytes, header_bytes: int, memory: CallerMemory | None, *, exact: bool
    ) -> tuple[Plan, dict[str, np.ndarray], bytes]:
        plan = self._planner.plan(tree)
        id_member = b'"id":%b,' % orjson.dumps(plan.request_id) if plan.request_id is not None else b""
        return plan, self._tensors(plan, body, header_bytes, memory, exact), id_member

    def _tensors(
        self, plan: Plan, body: bytes, offset: int, memory: CallerMemory | None, exact: bool
    ) -> dict[str, np.ndarray]:
        """The inputs; the binary ones lie behind ``offset``, in the order of the JSON, and share the body's memory."""
        if len(body) - offset != plan.binary_bytes:
            raise MalformedRequest(
                f"the tensors have {plan.binary_bytes} bytes by their binary_data_size, "
                f"{len(body) - offset} follow the JSON header",
                offset=offset,
            )
        inputs = {}
        for tensor in plan.tensors:
            size = tensor.size_bytes
            if size == IN_JSON:
                inputs[tensor.name] = self._json_tensor(tensor, exact)
                continue
            if tensor.region is not None and memory is not None:
                inputs[tensor.name] = shared_tensor(tensor, memory.read(tensor.region))
                continue
            if tensor.datatype == "BYTES":
                inputs[tensor.name] = read_bytes(body, offset, size, tensor.shape, tensor.count, tensor.name)
            else:
                inputs[tensor.name] = np.ndarray(tensor.shape, tensor.dtype, body, offset)
            offset += size
        return inputs

    def _json_tensor(self, tensor: TensorPlan, exact: bool) -> np.ndarray:
        data, path = tensor.data, f"{tensor.path}.data"
        if type(data) is not list:
            raise InvalidRequest(f"{path} is {kind_of(data)} where an array is expected", path=path)
        flat = not data or type(data[0]) is not list
        if flat and len(data) != tensor.count:
            raise InvalidRequest(
                f"{path} has {len(data)} values, the shape {list(tensor.shape)} has {tensor.count}", path=path
            )
        spec = TensorSpec(tensor.name, tensor.datatype, (tensor.count,) if flat else tensor.shape)
        try:
            return to_array(data, spec, self._nan).reshape(tensor.shape)
        except Doubt:
            if exact:
                explain(data, spec, self._nan, prefixed(path))
            raise


def shared_tensor(tensor: TensorPlan, content: np.ndarray) -> np.ndarray:
    """The input whose bytes, read from shared memory, are ``content``. Raises ``MalformedRequest``."""
    if tensor.datatype == "BYTES":
        return read_bytes(content.tobytes(), 0, content.nbytes, tensor.shape, tensor.count, tensor.name)
    return np.ndarray(tensor.shape, tensor.dtype, content)


def _header_bytes(value: bytes, body: bytes) -> int:
    """The length of the JSON at the start of the body. Raises ``MalformedRequest`` unless it is one the body has."""
    if value.isdigit() and len(value) < 20 and int(value) <= len(body):
        return int(value)
    raise MalformedRequest(
        f"Inference-Header-Content-Length is {value[:40].decode('latin-1')!r}, the body has {len(body)} bytes"
    )
