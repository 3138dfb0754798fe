"""Read the JSON object of a V2 request, all but its tensors' values, into a plan of how to decode and to answer it.

Format: Open Inference Protocol V2, "Inference Request JSON Object", with Triton's binary, classification and
parameters extensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import orjson

from inferd.core.config import NanPolicy
from inferd.core.errors import MalformedRequest, Unsupported
from inferd.core.tensors import Signature, explain_names, numpy_dtype
from inferd.protocols.oip.binary import LENGTH_BYTES
from inferd.protocols.oip.parameters import NONE_GIVEN, RequestParameters, read_request_parameters
from inferd.protocols.oip.reply import AnswerForm, OipReply, OutputForm
from inferd.protocols.oip.shared_memory import slice_of
from inferd.protocols.shared.json_members import did_you_mean, refuse
from inferd.protocols.shared.json_tensors import kind_of, show
from inferd.protocols.shared.regions import RegionSlice
from inferd.serving.servable import Servable

_MEMBERS = ("id", "parameters", "inputs", "outputs", "model_name")
_INPUT_MEMBERS = ("name", "shape", "datatype", "parameters", "data")
_OUTPUT_MEMBERS = ("name", "parameters")
_MAX_RANK = 32
_MAX_BYTES = 2**63
IN_JSON, IN_REGION = -1, -2
JSON_TYPE, BINARY_TYPE = b"application/json", b"application/octet-stream"


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """One input: ``size_bytes`` of the binary part, or ``IN_JSON`` with its values in ``data``, or ``IN_REGION`` with
    its place in shared memory in ``region``. ``path`` is its place in the body."""

    name: str
    datatype: str
    dtype: np.dtype
    shape: tuple[int, ...]
    count: int
    size_bytes: int
    data: Any
    path: str
    region: RegionSlice | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A request without its values. ``timeout_ns`` counts from its arrival, 0 means none. ``reply`` answers it when it
    has no id, and its caller no regions and no content coding."""

    tensors: tuple[TensorPlan, ...]
    binary_bytes: int
    request_id: str | None
    wanted: tuple[str, ...]
    parameters: Mapping[str, Any]
    timeout_ns: int
    form: AnswerForm
    reply: OipReply


class Planner:
    """Makes the plans of one version's requests. Safe to share between threads."""

    def __init__(
        self,
        name: str,
        version: int,
        signature: Signature,
        *,
        batchable: bool,
        nan: NanPolicy,
        default_outputs: tuple[str, ...] = (),
        labels: Sequence[object] = (),
        shared_memory: bool = False,
    ) -> None:
        self._signature = signature
        self._batchable = batchable
        self._nan: NanPolicy = nan
        self._default = default_outputs
        self._default_names = default_outputs or signature.output_names
        self._labels = labels
        self._shared_memory = shared_memory
        self._name = name
        self._head = b'{"model_name":%b,"model_version":"%d",' % (orjson.dumps(name), version)

    def plan(self, tree: Any) -> Plan:
        """The plan of a request's JSON object. Raises ``InvalidRequest``, ``MalformedRequest`` and ``Unsupported``."""
        if type(tree) is not dict:
            refuse(f"the body is {kind_of(tree)} where an object with 'inputs' is expected", "", tree)
        _refuse_unknown(tree, _MEMBERS, "")
        request_id = tree.get("id")
        if request_id is not None and type(request_id) is not str:
            refuse(f"id is {kind_of(request_id)} where a string is expected", "id", request_id)
        # Said by the path already; KServe's client and Triton's examples repeat it.
        if tree.get("model_name", self._name) != self._name:
            refuse(f"model_name is {show(tree['model_name'])}, the path's is {self._name!r}", "model_name", tree)
        parameters = NONE_GIVEN if tree.get("parameters") is None else read_request_parameters(tree["parameters"])
        tensors = self._inputs(tree.get("inputs"))
        wanted, form = self._outputs(tree.get("outputs"), parameters)
        return Plan(
            tensors,
            sum(tensor.size_bytes for tensor in tensors if tensor.size_bytes >= 0),
            request_id,
            wanted,
            parameters.model,
            parameters.timeout_ns,
            form,
            OipReply(form, b"", b""),
        )

    def raw(self, body: bytes) -> tuple[Plan, bytes]:
        """The plan of a body that is the one input's bytes and nothing else, and these bytes as other requests have
        them: a text comes without its length. The shape follows from the size, and the answer is binary too.

        Raises ``InvalidRequest``.
        """
        specs = self._signature.inputs
        is_text = [spec.datatype for spec in specs] == ["BYTES"]
        if len(specs) != 1 or (sum(size == -1 for size in specs[0].shape) > 1 and not is_text):
            refuse("the body has no JSON, and the shape of the model's inputs does not follow from its size", "", None)
        spec = specs[0]
        if is_text:
            body = len(body).to_bytes(LENGTH_BYTES, "little") + body
        row_bytes = prod(size for size in spec.shape if size != -1) * spec.dtype.itemsize
        rows = 1 if is_text or not row_bytes else len(body) // row_bytes
        tensor = {
            "name": spec.name,
            "datatype": spec.datatype,
            "shape": [rows if size == -1 else size for size in spec.shape],
            "parameters": {"binary_data_size": len(body)},
        }
        return self.plan({"inputs": [tensor], "parameters": {"binary_data_output": True}}), body

    def _inputs(self, entries: Any) -> tuple[TensorPlan, ...]:
        if type(entries) is not list:
            refuse(f"inputs is {kind_of(entries)} where an array of tensors is expected", "inputs", entries)
        tensors = tuple(_tensor(entry, f"inputs[{position}]") for position, entry in enumerate(entries))
        names = {tensor.name: None for tensor in tensors}
        if len(names) != len(tensors):
            refuse("inputs has two tensors of one name", "inputs", entries)
        explain_names(self._signature, names)
        if not self._shared_memory and any(tensor.region is not None for tensor in tensors):
            raise _no_shared_memory()
        return tensors

    def _outputs(self, entries: Any, parameters: RequestParameters) -> tuple[tuple[str, ...], AnswerForm]:
        """The outputs to compute, and the form to answer them in. No entries mean the default outputs."""
        if entries is None or entries == []:
            forms = [OutputForm(name, binary=parameters.binary_output) for name in self._default_names]
            return self._default, self._form(forms)
        if type(entries) is not list:
            refuse(f"outputs is {kind_of(entries)} where an array of objects is expected", "outputs", entries)
        forms = [
            self._output(entry, f"outputs[{position}]", parameters.binary_output)
            for position, entry in enumerate(entries)
        ]
        names = tuple(form.name for form in forms)
        if len(set(names)) != len(names):
            refuse("outputs names one output twice", "outputs", entries)
        # Who asks for all of them shares batches with those who name none.
        wanted = self._default if set(names) == set(self._default_names) else names
        return wanted, self._form(forms)

    def _output(self, entry: Any, path: str, binary: bool) -> OutputForm:
        name, parameters = _named(entry, path, _OUTPUT_MEMBERS)
        known = self._signature.output_names
        if name not in known:
            refuse(
                f"unknown output {show(name)}{did_you_mean(name, known)}; the model has {', '.join(map(repr, known))}",
                path,
                name,
            )
        binary = parameters.get("binary_data", binary)
        if type(binary) is not bool:
            refuse(f"{path}: binary_data is {show(binary)}; it takes true or false", path, binary)
        classes = parameters.get("classification", 0)
        if type(classes) is not int or classes < ("classification" in parameters):
            refuse(f"{path}: classification is {show(classes)}; it takes a number of classes above 0", path, classes)
        region = slice_of(parameters, path)
        if region is not None and not self._shared_memory:
            raise _no_shared_memory()
        return OutputForm(name, binary=binary or region is not None, classes=classes, region=region)

    def _form(self, outputs: Sequence[OutputForm]) -> AnswerForm:
        is_binary = any(output.binary and output.region is None for output in outputs)
        content_type = BINARY_TYPE if is_binary else JSON_TYPE
        return AnswerForm(self._head, outputs, self._nan, self._labels, self._batchable, content_type)


def planner_of(servable: Servable, *, shared_memory: bool) -> Planner:
    """The planner of a version that has become ready."""
    return Planner(
        servable.name,
        servable.version,
        servable.signature,
        batchable=servable.batchable,
        nan=servable.config.nan,
        default_outputs=servable.default_outputs,
        labels=servable.metadata.classes,
        shared_memory=shared_memory,
    )


def _no_shared_memory() -> Unsupported:
    return Unsupported("shared memory is off; send tensors in the body, or start the server with --allow-shared-memory")


def _refuse_unknown(entry: Mapping[str, Any], known: Sequence[str], path: str) -> None:
    for member in entry:
        if member not in known:
            place = f"{path}: " if path else ""
            refuse(f"{place}unknown member {show(member)}{did_you_mean(member, known)}", path, entry[member])


def _named(entry: Any, path: str, members: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
    """Name and parameters of an entry of inputs or outputs. Unknown parameters of a tensor mean nothing here."""
    if type(entry) is not dict:
        refuse(f"{path} is {kind_of(entry)} where an object is expected", path, entry)
    _refuse_unknown(entry, members, path)
    name = entry.get("name")
    if type(name) is not str:
        refuse(f"{path} has no name, or one that is no string", path, name)
    parameters = entry.get("parameters")
    if parameters is None:
        return name, {}
    if type(parameters) is not dict:
        refuse(f"{path}.parameters is {kind_of(parameters)} where an object is expected", path, parameters)
    return name, parameters


def _tensor(entry: Any, path: str) -> TensorPlan:
    name, parameters = _named(entry, path, _INPUT_MEMBERS)
    datatype, shape = entry.get("datatype"), entry.get("shape")
    try:
        dtype = numpy_dtype(datatype if type(datatype) is str else show(datatype))
    except ValueError as error:
        refuse(f"{path}: {error}", f"{path}.datatype", datatype)
    if type(shape) is not list or any(type(size) is not int or size < 0 for size in shape):
        refuse(f"{path}: shape must be an array of integers that are not negative", f"{path}.shape", shape)
    # No size of 0 may hide the others: each has to be one that an array can have.
    if len(shape) > _MAX_RANK or prod(max(size, 1) for size in shape) * dtype.itemsize >= _MAX_BYTES:
        refuse(f"{path}: no tensor can have this shape", f"{path}.shape", shape)
    count = prod(shape)
    size_bytes, expected = IN_JSON, count * (LENGTH_BYTES if datatype == "BYTES" else dtype.itemsize)
    region = slice_of(parameters, path)
    if region is not None:
        size_bytes = IN_REGION
        if entry.get("data") is not None or "binary_data_size" in parameters:
            refuse(f"{path} is in shared memory and in the body", path, None)
        _check_size(region.size, datatype, expected, path, "shared_memory_byte_size")
    elif "binary_data_size" in parameters:
        size_bytes = _binary_size(parameters["binary_data_size"], path)
        if "data" in entry:
            refuse(f"{path} has both data and binary_data_size", path, size_bytes)
        _check_size(size_bytes, datatype, expected, path)
    elif "data" not in entry:
        refuse(f"{path} has neither data nor binary_data_size", path, None)
    return TensorPlan(name, datatype, dtype, tuple(shape), count, size_bytes, entry.get("data"), path, region)


def _binary_size(size: Any, path: str) -> int:
    if type(size) is not int or not 0 <= size < _MAX_BYTES:
        refuse(f"{path}: binary_data_size must be a number of bytes", f"{path}.parameters.binary_data_size", size)
    return size


def _check_size(size: int, datatype: str, expected: int, path: str, member: str = "binary_data_size") -> None:
    """Numbers fill their bytes exactly; BYTES elements have at least their lengths."""
    if size < expected or (size > expected and datatype != "BYTES"):
        least = "at least " if datatype == "BYTES" else ""
        raise MalformedRequest(f"{path}: {member} is {size}, {datatype} of this shape has {least}{expected} bytes")
