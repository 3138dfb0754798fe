"""``generate`` and ``generate_stream``: plain JSON in, and out as one object or as server-sent events.

Form: Triton's "Generate Extension". A member that bears an input's name is that tensor, wherever it stands; every other
is a parameter. A value without as many brackets as its tensor has dimensions gets the missing ones around it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import orjson

from inferd.abc import Exchange, Target
from inferd.core.config import NanPolicy
from inferd.core.errors import InvalidRequest
from inferd.core.messages import InferenceRequest
from inferd.core.tensors import TensorSpec, explain_names
from inferd.protocols.oip.parameters import read_request_parameters
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.json_exact import read_exact
from inferd.protocols.shared.json_members import prefixed, refuse
from inferd.protocols.shared.json_tensors import Doubt, explain, kind_of, to_array
from inferd.protocols.shared.json_write import output_of, write_tensor
from inferd.protocols.shared.streaming import answering
from inferd.serving.servable import Servable

PROTOCOL = "oip"


async def generate(context: ProtocolContext, target: Target, exchange: Exchange) -> AsyncGenerator[bytes, None]:
    """Each response to the request in ``exchange`` as a JSON object.

    Raises ``InvalidRequest`` and what inference raises. Closing it early gives the request up.
    """
    body = exchange.body
    with answering(context, PROTOCOL, target, exchange, lambda servable: read_generate(body, servable)) as (
        responses,
        id_member,
        servable,
    ):
        head = b'{%b"model_name":%b,"model_version":"%d"' % (
            id_member,
            orjson.dumps(servable.name),
            servable.version,
        )
        async for outputs in responses:
            names = (name for name in servable.signature.output_names if name in outputs)
            members = [_member(name, outputs, servable.config.nan) for name in names]
            yield b"%b%b}" % (head, b"".join(members))


def read_generate(body: bytes, servable: Servable) -> tuple[InferenceRequest, bytes]:
    """The request in ``body``, and its id as the first member of an answer. Raises ``InvalidRequest``."""
    nan = servable.config.nan
    tree: Any = read_exact(body, non_finite=nan != "error")
    if type(tree) is not dict:
        refuse(f"the body is {kind_of(tree)} where an object is expected", "", tree)
    request_id = tree.pop("id", None)
    if request_id is not None and type(request_id) is not str:
        refuse(f"id is {kind_of(request_id)} where a string is expected", "id", request_id)
    given = _joined(tree)
    specs = {spec.name: spec for spec in servable.signature.inputs}
    tensors = {name: value for name, value in given.items() if name in specs}
    explain_names(servable.signature, tensors)
    inputs = {name: _tensor(value, specs[name], servable.batchable, nan) for name, value in tensors.items()}
    parameters = read_request_parameters({name: value for name, value in given.items() if name not in specs})
    request = InferenceRequest(inputs, parameters=parameters.model, deadline_ns=parameters.timeout_ns)
    return request, b'"id":%b,' % orjson.dumps(request_id) if request_id is not None else b""


def _joined(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The members of the body and of its ``parameters``. Raises ``InvalidRequest`` for a name in both."""
    nested = tree.get("parameters")
    if nested is None:
        nested = {}
    if type(nested) is not dict:
        refuse(f"parameters is {kind_of(nested)} where an object is expected", "parameters", nested)
    outer = {name: value for name, value in tree.items() if name != "parameters"}
    for name in nested:
        if name in outer:
            raise InvalidRequest(f"{name[:100]!r} is given twice, in the body and in its parameters", path=name[:100])
    return {**outer, **nested}


def _tensor(value: Any, spec: TensorSpec, batchable: bool, nan: NanPolicy) -> Any:
    depth, inner = 0, value
    while type(inner) is list:
        depth, inner = depth + 1, inner[0] if inner else None
    for _ in range(len(spec.shape) - depth):
        value = [value]
    if batchable:
        spec = TensorSpec(spec.name, spec.datatype, (1, *spec.shape[1:]), spec.optional)
    try:
        return to_array(value, spec, nan)
    except Doubt:
        explain(value, spec, nan, prefixed(spec.name))


def _member(name: str, outputs: Mapping[str, Any], nan: NanPolicy) -> bytes:
    """One output as a further member: a single value bare, several as a flat array."""
    array = output_of(outputs, name).reshape(-1)
    text = write_tensor(array, name, nan)
    return b",%b:%b" % (orjson.dumps(name), text[1:-1] if array.size == 1 else text)
