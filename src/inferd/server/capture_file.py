"""A capture as a file: an NPZ archive that numpy reads without unpickling, with a manifest in JSON. docs/capture.md
describes the layout.

Requests whose tensors have the same names, datatypes and shapes are a group, stored together; any number of groups fit
into one file. Written piece by piece, so that a server needs no second copy of what it holds.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.lib import format as npy_format

from inferd import __version__
from inferd.core.errors import InferdError, MalformedRequest
from inferd.core.tensors import DATATYPES, Tensors, datatype_name, numpy_dtype
from inferd.protocols.shared.npy import read_npy
from inferd.serving.capture import CapturedRequest

MANIFEST = "manifest.json"
FORMAT = "inferd-capture"
FORMAT_VERSION = 1
PIECE_BYTES = 1 << 18
_MAX_EXPANSION = 20
_ZIP64_BYTES = 1 << 30
_TENSORS = ("inputs", "outputs")
_DETAILS = tuple(each.name for each in fields(CapturedRequest) if each.name not in _TENSORS)


@dataclass(frozen=True, slots=True)
class CaptureFile:
    """``settings`` are those of the capture, as the server told of them."""

    model: str
    settings: Mapping[str, Any]
    requests: Sequence[CapturedRequest]

    @property
    def redacted(self) -> Sequence[str]:
        """Tensors that do not hold what was sent or answered."""
        return [*self.settings.get("redact", ()), *self.settings.get("leave_out", ())]


@dataclass(frozen=True, slots=True)
class _Group:
    """Requests of one form. ``forms`` says of "inputs" and "outputs" each tensor's datatype and shape by name."""

    forms: Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]]
    numbers: list[int]


def write_capture(settings: Mapping[str, Any], requests: Sequence[CapturedRequest]) -> Iterator[bytes]:
    """The file in pieces; slow, for a thread. ``settings`` hold the ``model``."""
    sink = _Sink()
    groups = _grouped(requests)
    with zipfile.ZipFile(sink, "w") as archive:  # type: ignore[call-overload]
        archive.writestr(MANIFEST, _manifest(settings, requests, groups))
        for number, group in enumerate(groups):
            for name, header, parts, size_bytes in _members(number, group, requests):
                with archive.open(f"{name}.npy", "w", force_zip64=size_bytes > _ZIP64_BYTES) as member:
                    member.write(header)
                    for part in parts:
                        member.write(part)
                        if sink.held_bytes >= PIECE_BYTES:
                            yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """Holds what was written until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.held_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        self.held_bytes += len(piece)
        return len(piece)

    def take(self) -> bytes:
        pieces, self._pieces, self.held_bytes = self._pieces, [], 0
        return b"".join(pieces)


def _grouped(requests: Sequence[CapturedRequest]) -> list[_Group]:
    groups: dict[Any, _Group] = {}
    for number, request in enumerate(requests):
        forms = {
            kind: {name: (datatype_name(array.dtype), array.shape) for name, array in getattr(request, kind).items()}
            for kind in _TENSORS
        }
        key = tuple(tuple(sorted(forms[kind].items())) for kind in _TENSORS)
        groups.setdefault(key, _Group(forms, [])).numbers.append(number)
    return list(groups.values())


def _manifest(settings: Mapping[str, Any], requests: Sequence[CapturedRequest], groups: Sequence[_Group]) -> bytes:
    return orjson.dumps(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "inferd": __version__,
            "model": settings["model"],
            "settings": settings,
            "requests": [{name: _plain(getattr(request, name)) for name in _DETAILS} for request in requests],
            "groups": [
                {
                    "requests": group.numbers,
                    **{
                        kind: {
                            name: {"datatype": each[0], "shape": each[1]} for name, each in group.forms[kind].items()
                        }
                        for kind in _TENSORS
                    },
                }
                for group in groups
            ],
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )


def _plain(value: Any) -> Any:
    """A header's bytes need not be UTF-8, and JSON must."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _members(
    number: int, group: _Group, requests: Sequence[CapturedRequest]
) -> Iterator[tuple[str, bytes, Iterator[bytes], int]]:
    """Name, NPY header, contents and their size of each array of a group."""
    for kind in _TENSORS:
        for name, (datatype, shape) in group.forms[kind].items():
            arrays = [getattr(requests[each], kind)[name] for each in group.numbers]
            stacked = (len(arrays), *shape)
            if datatype != "BYTES":
                dtype = _stored(datatype)
                size_bytes = dtype.itemsize * int(np.prod(stacked))
                yield _member(number, kind, name), _header(dtype, stacked), (a.tobytes() for a in arrays), size_bytes
                continue
            texts = [_texts(array) for array in arrays]
            lengths = np.array([len(text) for each in texts for text in each], np.int64)
            total = int(lengths.sum())
            yield (
                _member(number, f"{kind}_lengths", name),
                _header(lengths.dtype, stacked),
                iter([lengths.tobytes()]),
                lengths.nbytes,
            )
            contents = (b"".join(each) for each in texts)
            yield _member(number, kind, name), _header(np.dtype(np.uint8), (total,)), contents, total


def _member(number: int, kind: str, name: str) -> str:
    return f"{number}.{kind.replace('puts', 'put')}.{name}"


def _stored(datatype: str) -> np.dtype:
    """BF16 as the integers that have its bits: NPY cannot express it."""
    return np.dtype(np.uint16) if datatype == "BF16" else numpy_dtype(datatype)


def _texts(array: np.ndarray) -> list[bytes]:
    return [
        item if isinstance(item, bytes) else str(item).encode("utf-8", "replace") for item in array.ravel().tolist()
    ]


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    out = io.BytesIO()
    description = {"descr": npy_format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy_format.write_array_header_1_0(out, description)
    return out.getvalue()


def is_capture(file: Path) -> bool:
    """Whether ``file`` looks like one: an archive with a manifest."""
    try:
        with zipfile.ZipFile(file) as archive:
            return MANIFEST in archive.NameToInfo
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def read_capture(file: Path) -> CaptureFile:
    """What ``write_capture`` wrote. Raises ``MalformedRequest`` for anything else, and ``OSError``."""
    try:
        with zipfile.ZipFile(file) as archive:
            _check_members(file, archive)
            return _read(archive)
    except (InferdError, OSError) as error:
        raise error if isinstance(error, OSError) else MalformedRequest(f"{file}: {error.message}") from None
    # zipfile, zlib and a manifest that says what is not so share no base class.
    except Exception as error:
        raise MalformedRequest(f"{file} is not a whole capture: {type(error).__name__} {error}") from None


def _check_members(file: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    if sum(member.file_size for member in members) > _MAX_EXPANSION * file.stat().st_size:
        raise MalformedRequest(f"the archive expands to more than {_MAX_EXPANSION} times its size")
    if len({member.filename for member in members}) != len(members):
        raise MalformedRequest("the archive holds two members of one name")
    if MANIFEST not in archive.NameToInfo:
        raise MalformedRequest(f"no capture: it has no {MANIFEST}")


def _read(archive: zipfile.ZipFile) -> CaptureFile:
    manifest = orjson.loads(archive.read(MANIFEST))
    if type(manifest) is not dict or manifest.get("format") != FORMAT:
        raise MalformedRequest(f"no capture: its manifest does not say {FORMAT}")
    if manifest["format_version"] != FORMAT_VERSION:
        raise MalformedRequest(
            f"a capture of format {manifest['format_version']}, and this inferd reads {FORMAT_VERSION}"
        )
    details = manifest["requests"]
    tensors: list[dict[str, Tensors]] = [{} for _ in details]
    for number, group in enumerate(manifest["groups"]):
        for kind in _TENSORS:
            for place, arrays in zip(group["requests"], _split(archive, number, kind, group), strict=True):
                if type(place) is not int or place < 0 or kind in tensors[place]:
                    raise MalformedRequest(f"group {number} names the request {place!r}, which it cannot hold")
                tensors[place][kind] = arrays
    requests = [_request(each, **own) for each, own in zip(details, tensors, strict=True)]
    settings = manifest["settings"]
    return CaptureFile(_typed(manifest["model"], str), settings if type(settings) is dict else {}, requests)


def _split(archive: zipfile.ZipFile, number: int, kind: str, group: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """The tensors of each request of a group."""
    count = len(group["requests"])
    found: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
    for name, form in group[kind].items():
        datatype, shape = form["datatype"], tuple(form["shape"])
        if datatype not in DATATYPES:
            raise MalformedRequest(f"{name!r} is of the datatype {datatype!r}, which is none")
        stacked = _stacked(archive, number, kind, name, datatype)
        if stacked.shape != (count, *shape):
            raise MalformedRequest(
                f"group {number}: {name!r} has shape {list(stacked.shape)}, and the manifest differs"
            )
        for place in range(count):
            found[place][name] = stacked[place, ...]
    return found


def _stacked(archive: zipfile.ZipFile, number: int, kind: str, name: str, datatype: str) -> np.ndarray:
    array = _array(archive, number, kind, name)
    if datatype != "BYTES":
        if array.dtype != _stored(datatype):
            raise MalformedRequest(f"group {number}: {name!r} is stored as {array.dtype}, not as {datatype}")
        return array.view(numpy_dtype(datatype))
    lengths = _array(archive, number, f"{kind}_lengths", name)
    ends = lengths.ravel().cumsum()
    total = int(ends[-1]) if ends.size else 0
    if lengths.dtype != np.int64 or (lengths < 0).any() or array.dtype != np.uint8 or array.shape != (total,):
        raise MalformedRequest(f"group {number}: the lengths of {name!r} are not those of its texts")
    content, texts = array.tobytes(), np.empty(lengths.size, object)
    texts[:] = [
        content[end - length : end] for end, length in zip(ends.tolist(), lengths.ravel().tolist(), strict=True)
    ]
    return texts.reshape(lengths.shape)


def _array(archive: zipfile.ZipFile, number: int, kind: str, name: str) -> np.ndarray:
    return read_npy(archive.read(f"{_member(number, kind, name)}.npy"))


def _request(details: Mapping[str, Any], inputs: Tensors, outputs: Tensors) -> CapturedRequest:
    values = dict(details)
    values["wanted"] = tuple(_typed(name, str) for name in values["wanted"])
    for name in ("request_id", "outcome", "reason", "signature", "unit"):
        _typed(values[name], str)
    for name in ("at_ms", "version", "rows", "batch_rows", "queue_ns", "compute_ns", "total_ns"):
        _typed(values[name], int)
    _typed(values["parameters"], dict)
    return CapturedRequest(inputs=inputs, outputs=outputs, **values)


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise MalformedRequest(f"the manifest has {str(value)[:40]!r} where a {kind.__name__} belongs")
    return value
