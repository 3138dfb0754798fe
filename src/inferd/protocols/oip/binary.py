"""Hot: tensors as raw bytes, little-endian and in row-major order; BYTES elements each behind a four-byte length.

Format: Triton's "Binary Tensor Data Extension". Reading shares the body's memory, so an input may be misaligned.
Only machines that are little-endian themselves are served, as are all that the frameworks run on.
"""

from __future__ import annotations

from struct import Struct

import numpy as np

from inferd.core.errors import ExecutionFailed, MalformedRequest

LENGTH_BYTES = 4
_pack_length = Struct("<I").pack


def read_bytes(body: bytes, offset: int, size: int, shape: tuple[int, ...], count: int, name: str) -> np.ndarray:
    """The BYTES tensor of ``count`` elements in ``size`` bytes from ``offset``; its elements are ``bytes``.

    Raises ``MalformedRequest`` unless lengths and contents fill the bytes exactly.
    """
    at, end = offset, offset + size
    items: list[bytes] = []
    if count * LENGTH_BYTES <= size:  # a shape may promise more elements than memory holds
        while at + LENGTH_BYTES <= end and len(items) < count:
            start = at + LENGTH_BYTES
            at = start + int.from_bytes(body[at:start], "little")
            if at > end:
                raise MalformedRequest(
                    f"input {name!r}: element {len(items)} says it has {at - start} bytes, {end - start} are left",
                    offset=start - LENGTH_BYTES,
                )
            items.append(body[start:at])
    if len(items) != count or at != end:
        raise MalformedRequest(
            f"input {name!r}: {size} bytes do not hold the {count} length-prefixed elements of shape {list(shape)}",
            offset=offset,
        )
    array = np.empty(count, dtype=object)
    array[:] = items
    return array.reshape(shape)


def to_buffer(array: np.ndarray, name: str) -> memoryview:
    """The bytes to write for ``array``: its own memory when that is in order already.

    Raises ``ExecutionFailed`` for a BYTES element that is neither bytes nor text.
    """
    if array.dtype.kind in "OSUT":
        return memoryview(b"".join([_element(item, name) for item in array.ravel().tolist()]))
    if array.dtype.kind == "V":  # BF16, whose memory numpy cannot lend; asking for its name takes 3 µs
        array = array.view(np.uint16)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return np.ascontiguousarray(array).data


def _element(item: object, name: str) -> bytes:
    if type(item) is str:
        item = item.encode()
    if not isinstance(item, bytes):
        raise ExecutionFailed(f"output {name!r} holds {type(item).__name__} where bytes or text are expected")
    return _pack_length(len(item)) + item
