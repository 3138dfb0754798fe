"""The parameters of a V2 request that the server itself understands, apart from those meant for the model.

Reserved names: Triton's "Parameters Extension", "Sequence Extension" and "Schedule Policy Extension".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from inferd.core.messages import NO_PARAMETERS
from inferd.protocols.shared.json_members import read_parameters, refuse
from inferd.protocols.shared.json_tensors import show

MAX_TIMEOUT_US = 86_400_000_000
_MAX_UINT64 = 2**64 - 1
_RESERVED = ("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output")


class RequestParameters(NamedTuple):
    """``timeout_ns`` 0 means none was asked for. ``model`` holds what is not reserved."""

    timeout_ns: int
    binary_output: bool
    model: Mapping[str, Any]


NONE_GIVEN = RequestParameters(0, False, NO_PARAMETERS)


def read_request_parameters(given: Any) -> RequestParameters:
    """Check the ``parameters`` of a request. ``timeout`` is in microseconds.

    ``sequence_*`` and ``priority`` are checked and have no effect: every model here is stateless and every request
    equal. Raises ``InvalidRequest``.
    """
    parameters = read_parameters(given)
    for name in _RESERVED:
        if name in parameters:
            _check(name, parameters[name])
    model = {name: value for name, value in parameters.items() if name not in _RESERVED}
    return RequestParameters(
        parameters.get("timeout", 0) * 1000, parameters.get("binary_data_output", False), model or NO_PARAMETERS
    )


def _check(name: str, value: Any) -> None:
    if name in ("sequence_start", "sequence_end", "binary_data_output"):
        if type(value) is not bool:
            _refuse(name, value, "true or false")
    elif name == "sequence_id" and type(value) is str:
        if len(value) > 128:
            _refuse(name, value, "a text of at most 128 characters, or an integer")
    elif type(value) is not int or not 0 <= value <= (MAX_TIMEOUT_US if name == "timeout" else _MAX_UINT64):
        expected = f"microseconds up to {MAX_TIMEOUT_US} (a day)" if name == "timeout" else "an integer of 64 bits"
        _refuse(name, value, expected + ", not negative")


def _refuse(name: str, value: Any, expected: str) -> None:
    refuse(f"the parameter {name} is {show(value)}; it takes {expected}", f"parameters.{name}", value)
