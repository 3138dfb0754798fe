"""Shared memory on V2's wire: the parameters that place a tensor in a region, and the requests about regions.

Rules: Triton's "Shared-Memory Extension". A region's own offset and a tensor's add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferd.abc import Endpoint, Exchange
from inferd.core.errors import Unsupported
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.json_members import refuse
from inferd.protocols.shared.json_tensors import kind_of, show
from inferd.protocols.shared.regions import OWNER, Region, RegionSlice, SharedRegions

_MAX_BYTES = 2**63
REGION = "shared_memory_region"
_SIZE, _OFFSET = "shared_memory_byte_size", "shared_memory_offset"
NO_CUDA = "CUDA shared memory is not offered: tensors are taken from host memory; use system shared memory"


def slice_of(parameters: Mapping[str, Any], path: str) -> RegionSlice | None:
    """Where the parameters of a tensor place it; None when they do not. Raises ``InvalidRequest``."""
    if REGION not in parameters:
        for name in (_SIZE, _OFFSET):
            if name in parameters:
                refuse(f"{path} has {name} and no {REGION}", path, parameters[name])
        return None
    name = parameters[REGION]
    if type(name) is not str:
        refuse(f"{path}: {REGION} is {kind_of(name)} where a name is expected", path, name)
    if _SIZE not in parameters:
        refuse(f"{path} has {REGION} and no {_SIZE}", path, name)
    return RegionSlice(name, _bytes(parameters.get(_OFFSET, 0), _OFFSET, path), _bytes(parameters[_SIZE], _SIZE, path))


def parameters_of(place: RegionSlice, size: int) -> dict[str, Any]:
    """The parameters of an output of which ``size`` bytes were written at ``place``."""
    parameters: dict[str, Any] = {REGION: place.region, _SIZE: size}
    return {**parameters, _OFFSET: place.offset} if place.offset else parameters


def region_entry(region: Region) -> dict[str, Any]:
    """One region in the answer to a status request."""
    return {"name": region.name, "key": region.key, "offset": region.offset, "byte_size": region.size}


def register(context: ProtocolContext, owner: str, name: str, values: Any) -> None:
    """Register what ``values`` says, an object with ``key``, ``offset`` and ``byte_size``.

    Raises ``Unsupported`` and what ``SharedRegions`` raises.
    """
    regions = regions_of(context)
    if type(values) is not dict:
        refuse(f"the body is {kind_of(values)} where an object with key and byte_size is expected", "", values)
    key = values.get("key")
    if type(key) is not str:
        refuse(f"key is {kind_of(key)} where a text is expected", "key", key)
    offset = _bytes(values.get("offset", 0), "offset", "the region")
    regions.register(owner, name, key, offset, _bytes(values.get("byte_size"), "byte_size", "the region"))


def regions_of(context: ProtocolContext) -> SharedRegions:
    """Raises ``Unsupported`` unless the server was started to take shared memory."""
    if context.regions is None:
        raise Unsupported("shared memory is off; start the server with --allow-shared-memory")
    return context.regions


class OwnedEndpoint:
    """Tells the codec behind ``endpoint`` whose regions a request may use."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def handle(self, exchange: Exchange) -> None:
        """See ``Endpoint``."""
        own(exchange)
        self._endpoint.handle(exchange)

    def refuse(self, exchange: Exchange, error: Exception) -> None:
        """See ``Endpoint``."""
        self._endpoint.refuse(exchange, error)


def own(exchange: Exchange) -> None:
    """Say whose regions a request may use."""
    exchange.headers = {**exchange.headers, OWNER: exchange.principal.encode()}


def _bytes(value: Any, name: str, path: str) -> int:
    if type(value) is not int or not 0 <= value < _MAX_BYTES:
        refuse(f"{path}: {name} is {show(value)} where a number of bytes is expected", path, value)
    return value  # type: ignore[no-any-return]
