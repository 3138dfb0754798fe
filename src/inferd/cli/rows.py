"""Read the input of ``inferd predict``: a JSON, JSON Lines, CSV, NPY or NPZ file as batches of named tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from inferd.cli.csv_rows import csv_batches, csv_count
from inferd.core.config import NanPolicy
from inferd.core.errors import MalformedRequest
from inferd.core.tensors import Signature, explain_names
from inferd.protocols.native.codec import NativeCodec
from inferd.protocols.shared.npy import fit
from inferd.server.capture_file import is_capture, read_capture

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Rows:
    """``count`` rows; ``batches(size)`` gives them in order, at most ``size`` at a time, fit for the signature.

    A model that is not batchable has one row: everything. ``wanted`` and ``parameters`` come from a JSON body.
    """

    count: int
    batches: Callable[[int], Iterator[Tensors]]
    wanted: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


def read_rows(
    file: Path, signature: Signature, *, batchable: bool, nan: NanPolicy, feature_names: Sequence[str]
) -> Rows:
    """The rows of ``file``, by its suffix. Raises ``MalformedRequest`` or ``InvalidRequest`` for what does not fit."""
    suffix = file.suffix.lower()
    if not file.is_file():
        raise MalformedRequest(f"{file} is not a file")
    if suffix in (".json", ".jsonl", ".ndjson"):
        body = _json_body(file.read_bytes(), lines=suffix != ".json")
        request, _ = NativeCodec(signature, batchable=batchable, nan=nan).decode(body, {})
        rows = _from_arrays(request.inputs, signature, batchable)
        return Rows(rows.count, rows.batches, request.wanted, request.parameters)
    if suffix == ".npz" and is_capture(file):
        return _from_arrays(_captured(file, signature, batchable), signature, batchable)
    if suffix in (".npy", ".npz"):
        return _from_arrays(_load(file, signature), signature, batchable)
    if suffix == ".csv":
        return Rows(csv_count(file), lambda size: csv_batches(file, signature, feature_names, size))
    raise MalformedRequest(f"{file}: the suffix must be .json, .jsonl, .csv, .npy or .npz")


def _json_body(text: bytes, *, lines: bool) -> bytes:
    """A native ``/predict`` body: the file itself, or one made of a bare array or of one instance a line."""
    if lines:
        return b'{"instances":[' + b",".join(line for line in text.splitlines() if line.strip()) + b"]}"
    return b'{"instances":' + text + b"}" if text.lstrip()[:1] == b"[" else text


def _load(file: Path, signature: Signature) -> Tensors:
    """The arrays in ``file``, never unpickled. NPY is mapped, so that only the batch in hand is in memory."""
    try:
        loaded = np.load(file, mmap_mode="r", allow_pickle=False)
        arrays = {signature.inputs[0].name: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as error:  # numpy, zipfile and zlib share no base class
        raise MalformedRequest(f"{file} is not a readable array file: {error}") from None
    explain_names(signature, arrays)
    return arrays


def _captured(file: Path, signature: Signature, batchable: bool) -> Tensors:
    """The inputs of the captured requests without parameters, joined; one request's for a model that is not
    batchable."""
    found = [each.inputs for each in read_capture(file).requests if not each.parameters and not each.signature]
    if not found:
        raise MalformedRequest(f"{file} holds no requests without parameters")
    explain_names(signature, found[0])
    if not batchable:
        return found[0]
    try:
        return {name: np.concatenate([each[name] for each in found]) for name in found[0]}
    except (KeyError, ValueError):
        raise MalformedRequest(f"{file}: its requests differ in their inputs or shapes, and cannot be joined") from None


def _from_arrays(arrays: Tensors, signature: Signature, batchable: bool) -> Rows:
    specs = {spec.name: spec for spec in signature.inputs}
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()} if batchable else {"": 1}
    if len(set(counts.values())) > 1:
        raise MalformedRequest(f"the inputs differ in their number of rows: {counts}")
    count = next(iter(counts.values()), 0)

    def batches(size: int) -> Iterator[Tensors]:
        for start in range(0, count, size):
            cut = slice(start, start + size) if batchable else ...
            yield {name: fit(np.asarray(array[cut]), specs[name]) for name, array in arrays.items()}

    return Rows(count, batches)
