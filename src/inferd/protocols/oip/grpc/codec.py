"""Hot: read a ``ModelInferRequest`` straight to tensors, and choose how its answer is written.

Format: Open Inference Protocol V2, "GRPC", with Triton's classification, parameters and sequence extensions. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from inferd.core.errors import InvalidRequest, MalformedRequest
from inferd.core.messages import InferenceRequest
from inferd.protocols.grpc.exchange import deadline_in
from inferd.protocols.grpc.schema import read_message
from inferd.protocols.grpc.wire import length_field
from inferd.protocols.oip.binary import read_bytes
from inferd.protocols.oip.codec import shared_tensor
from inferd.protocols.oip.grpc.contents import read_contents
from inferd.protocols.oip.grpc.reply import GrpcReply
from inferd.protocols.oip.grpc.request import RequestParts, split, text
from inferd.protocols.oip.plan import Plan, Planner, TensorPlan
from inferd.protocols.oip.shared_memory import REGION
from inferd.protocols.shared.regions import CallerMemory, SharedRegions

_MAX_KNOWN = 64
_MAX_KNOWN_BYTES = 4096
_FINAL_ASKED = "triton_enable_empty_final_response"


@dataclass(frozen=True, slots=True)
class HeadPlan:
    """What a request's head says. ``typed`` when its tensors have typed contents; ``sizes`` are the bytes of each
    tensor that is not in shared memory, 0 for BYTES."""

    plan: Plan
    typed: bool
    final: bool
    sizes: tuple[int, ...]


class GrpcCodec:
    """The V2 codec of one version. Safe to share between threads."""

    def __init__(self, planner: Planner, name: str, version: int, regions: SharedRegions | None = None) -> None:
        self._planner = planner
        self._regions = regions
        self._head = length_field(1, name.encode()) + length_field(2, b"%d" % version)
        self._known: dict[bytes, HeadPlan] = {}

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[InferenceRequest, GrpcReply]:
        """See ``Codec`` of the shared endpoint. ``headers`` may hold the caller's deadline."""
        parts = split(body)
        head = self._known.get(parts.head) or self._read(parts)
        plan = head.plan
        memory = CallerMemory(self._regions, headers) if self._regions is not None else None
        inputs = _typed_inputs(plan, memory) if head.typed else _raw_inputs(head, body, parts.raw, memory)
        timeout_ns = plan.timeout_ns
        remaining_ns = deadline_in(headers)
        if remaining_ns:
            timeout_ns = min(remaining_ns, timeout_ns or remaining_ns)
        request = InferenceRequest(inputs, wanted=plan.wanted, parameters=plan.parameters, deadline_ns=timeout_ns)
        return request, self._reply(parts.request_id, head, memory)

    def _reply(self, request_id: bytes, head: HeadPlan, memory: CallerMemory | None) -> GrpcReply:
        start = self._head
        if request_id:
            text(request_id, "id")
            start += length_field(3, request_id)
        form = head.plan.form
        typed = head.typed and not any(output.binary for output in form.outputs)
        return GrpcReply(form, start, typed=typed, final=head.final, memory=memory)

    def _read(self, parts: RequestParts) -> HeadPlan:
        """Read the head; one whose tensors are raw holds no values and is remembered."""
        message = read_message("inference.ModelInferRequest", parts.head)
        typed = _is_typed(message, len(parts.raw))
        parameters = read_parameters(message.parameters)
        final = parameters.pop(_FINAL_ASKED, False) is True
        plan = self._planner.plan(_tree(message, parameters, typed=typed))
        sizes = tuple(
            0 if each.datatype == "BYTES" else each.count * each.dtype.itemsize
            for each in plan.tensors
            if each.region is None
        )
        head = HeadPlan(plan, typed, final, sizes)
        if not typed and len(parts.head) <= _MAX_KNOWN_BYTES:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[parts.head] = head
        return head


def _is_typed(message: Any, raw_count: int) -> bool:
    """Whether the inputs have typed contents. Raises ``MalformedRequest`` when there are raw ones as well."""
    if not raw_count:
        return not all(REGION in tensor.parameters for tensor in message.inputs) or not message.inputs
    if any(tensor.HasField("contents") for tensor in message.inputs):
        raise MalformedRequest("the request has both raw_input_contents and typed contents; send one of them")
    return False


def _tree(message: Any, parameters: Mapping[str, Any], *, typed: bool) -> dict[str, Any]:
    """The request as the planner reads it; the data of a tensor is its typed contents, or nothing when it is raw."""
    tree: dict[str, Any] = {
        "inputs": [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.shape),
                "parameters": _tensor_parameters(tensor),
                "data": tensor.contents if typed and REGION not in tensor.parameters else None,
            }
            for tensor in message.inputs
        ],
        "outputs": [{"name": each.name, "parameters": read_parameters(each.parameters)} for each in message.outputs],
    }
    return {**tree, "parameters": parameters} if parameters else tree


def _tensor_parameters(tensor: Any) -> dict[str, Any]:
    """KServe's client says here too how long a binary tensor is, which its place among the raw contents tells."""
    parameters = read_parameters(tensor.parameters)
    parameters.pop("binary_data_size", None)
    return parameters


def read_parameters(given: Any) -> dict[str, Any]:
    """The values of a map of ``InferParameter``, or of ``ModelRepositoryParameter``.

    Raises ``InvalidRequest`` for one that has none.
    """
    if not given:
        return {}
    values = {}
    for name, parameter in given.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidRequest(f"the parameter {name[:100]!r} has no value", path="parameters")
        values[name] = getattr(parameter, choice)
    return values


def _typed_inputs(plan: Plan, memory: CallerMemory | None) -> dict[str, np.ndarray]:
    return {
        tensor.name: read_contents(tensor, tensor.data)
        if tensor.region is None or memory is None
        else shared_tensor(tensor, memory.read(tensor.region))
        for tensor in plan.tensors
    }


def _raw_inputs(
    head: HeadPlan, body: bytes, raw: list[tuple[int, int]], memory: CallerMemory | None
) -> dict[str, np.ndarray]:
    """The inputs as views of the message's memory, in the order of its tensors. Raises ``MalformedRequest``."""
    tensors = head.plan.tensors
    inputs = {}
    if memory is not None:
        inputs = {each.name: shared_tensor(each, memory.read(each.region)) for each in tensors if each.region}
        tensors = tuple(each for each in tensors if each.region is None)
    if len(raw) != len(tensors):
        raise MalformedRequest(f"raw_input_contents has {len(raw)} entries for {len(tensors)} inputs")
    for tensor, expected, (at, size) in zip(tensors, head.sizes, raw, strict=True):
        if tensor.datatype == "BYTES":
            inputs[tensor.name] = read_bytes(body, at, size, tensor.shape, tensor.count, tensor.name)
        elif size == expected:
            inputs[tensor.name] = np.ndarray(tensor.shape, tensor.dtype, body, at)
        else:
            raise _wrong_size(tensor, expected, size)
    return inputs


def _wrong_size(tensor: TensorPlan, expected: int, size: int) -> MalformedRequest:
    return MalformedRequest(
        f"input {tensor.name!r}: its raw_input_contents has {size} bytes, "
        f"{tensor.datatype} of shape {list(tensor.shape)} has {expected}",
        tensor=tensor.name,
    )
