"""NPY and NPZ bodies to arrays and back, never pickled, without a copy where the bytes allow it.

Format: numpy's NEP 1, "A Simple File Format for NumPy Arrays". NaN and infinities pass as they are: these formats can
express them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from math import prod

import numpy as np
from numpy.lib import format as npy_format

from inferd.core.errors import InferdError, InvalidRequest, MalformedRequest
from inferd.core.tensors import TensorSpec, describe, explain
from inferd.protocols.shared.json_tensors import Doubt, is_float, narrow_float

_MAX_HEADER_BYTES = 10_000
_MAX_EXPANSION = 20
_MAX_RANK = 32
_HEADER_READERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


def read_npy(body: bytes) -> np.ndarray:
    """The array in ``body``, read-only, sharing its memory when it is aligned and in native byte order.

    Raises ``MalformedRequest`` for anything but one complete array of plain numbers or fixed-width text.
    """
    start = _data_start(body)
    shape, fortran, dtype = _header(body[:start])
    count = prod(shape)
    if len(body) - start != count * dtype.itemsize:
        raise MalformedRequest(
            f"the NPY header promises {count * dtype.itemsize} bytes of data, the body has {len(body) - start}",
            offset=start,
        )
    if count == 0:
        return np.empty(shape, dtype.newbyteorder("="))
    array = np.frombuffer(body, dtype=dtype, count=count, offset=start)
    array = array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    if not array.flags.aligned or not array.dtype.isnative or not array.flags.c_contiguous:
        return np.array(array, dtype=dtype.newbyteorder("="), order="C")
    return array


def read_npz(body: bytes) -> dict[str, np.ndarray]:
    """The arrays in ``body`` by name. Raises ``MalformedRequest``, also for an archive that expands without measure."""
    try:
        with zipfile.ZipFile(BytesIO(body)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > _MAX_EXPANSION * len(body):
                raise MalformedRequest(f"the NPZ archive expands to more than {_MAX_EXPANSION} times its size")
            names = [member.filename.removesuffix(".npy") for member in members]
            if len(set(names)) != len(names):
                raise MalformedRequest("the NPZ archive holds two arrays of one name")
            return {name: read_npy(archive.read(member)) for name, member in zip(names, members, strict=True)}
    except InferdError:
        raise
    except Exception as error:  # zipfile, zlib and lzma share no base class
        raise MalformedRequest("the body is not a readable NPZ archive", offset=0) from error


def write_npy(array: np.ndarray) -> bytes:
    """``array`` as an NPY file. BYTES become fixed-width text (bytes when not UTF-8), BF16 becomes float32."""
    out = BytesIO()
    npy_format.write_array(out, _plain(array), allow_pickle=False)
    return out.getvalue()


def write_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """``arrays`` as an uncompressed NPZ archive."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", write_npy(array))
    return out.getvalue()


def fit(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """``array`` in the datatype of ``spec``, itself when it has it already.

    Integers go to integers in range and to floats; floats go to floats unless a finite value would overflow; text
    goes to BYTES; booleans only to BOOL. Raises ``InvalidRequest`` for all else, and for a shape that does not fit.
    """
    if not spec.accepts_shape(array.shape):
        explain(spec, array)
    if array.dtype == spec.dtype:
        return array
    try:
        return _convert(array, spec)
    except Doubt:
        raise InvalidRequest(
            f"input {spec.name!r} is {array.dtype} with values that {describe(spec)} cannot hold",
            tensor=spec.name,
            got=str(array.dtype),
            expected=describe(spec),
        ) from None


def _convert(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    kind = array.dtype.kind
    if spec.datatype == "BYTES" and kind in "SU":
        flat = np.char.encode(array, "utf-8") if kind == "U" else array
        return flat.astype(object)
    if spec.datatype == "BF16" and array.dtype == np.dtype("V2"):
        return array.view(spec.dtype)
    if is_float(spec) and kind in "iuf":
        return narrow_float(array.astype(np.float64), spec)
    if spec.dtype.kind in "iu" and kind in "iu":
        limits = np.iinfo(spec.dtype)
        if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
            raise Doubt
        return array.astype(spec.dtype)
    explain(spec, array)
    raise Doubt


def _plain(array: np.ndarray) -> np.ndarray:
    if array.dtype.name == "bfloat16":
        return array.astype(np.float32)
    if array.dtype.kind != "O":
        return array
    items = array.ravel().tolist()
    try:
        texts = [item.decode() if isinstance(item, bytes) else str(item) for item in items]
    except UnicodeDecodeError:
        return np.array(items, dtype=np.bytes_).reshape(array.shape)
    return np.array(texts, dtype=np.str_).reshape(array.shape)


def _data_start(body: bytes) -> int:
    if body[:6] != b"\x93NUMPY" or len(body) < 12:
        raise MalformedRequest("the body is not an NPY file", offset=0)
    if body[6] == 1:
        start = 10 + int.from_bytes(body[8:10], "little")
    else:
        start = 12 + int.from_bytes(body[8:12], "little")
    if start > min(len(body), _MAX_HEADER_BYTES):
        raise MalformedRequest("the NPY header is longer than the body or the limit", offset=8)
    return start


@lru_cache(maxsize=64)
def _header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and dtype. Cached, because numpy reads a header as a Python literal (40 µs)."""
    stream = BytesIO(header)
    try:
        version = npy_format.read_magic(stream)
        shape, fortran, dtype = _HEADER_READERS[version](stream, max_header_size=_MAX_HEADER_BYTES)
    except Exception as error:  # the literal reader raises whatever the literal provokes
        raise MalformedRequest("the NPY header cannot be read", offset=6) from error
    if dtype.kind not in "biufSU" and dtype != np.dtype("V2"):
        raise MalformedRequest(f"an NPY array of dtype {dtype} is not accepted: numbers, booleans or text only")
    sizes_fit = all(type(size) is int and size >= 0 for size in shape) and len(shape) <= _MAX_RANK
    if not sizes_fit or not 0 < prod(max(size, 1) for size in shape) * dtype.itemsize < 2**63:
        raise MalformedRequest("the NPY header has an impossible shape", offset=6)
    return shape, fortran, dtype
