"""Write the output of ``inferd predict``: JSON, CSV, NPY or NPZ by the file's suffix, JSON on standard output."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import click
import numpy as np

from inferd.core.config import NanPolicy
from inferd.core.errors import ConfigError
from inferd.protocols.shared.json_reply import JsonReply
from inferd.protocols.shared.json_tensors import to_json
from inferd.protocols.shared.npy import write_npy, write_npz

Outputs = Mapping[str, np.ndarray]
SUFFIXES = (".json", ".csv", ".npy", ".npz")


def check_output(out: Path | None, names: Sequence[str]) -> None:
    """Raise ``ConfigError`` before any work is done when ``out`` cannot hold these outputs."""
    if out is None:
        return
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{out}: the suffix must be one of {', '.join(SUFFIXES)}")
    if out.suffix.lower() == ".npy" and len(names) > 1:
        raise ConfigError(f"{out}: NPY holds one output, there are {', '.join(names)}; pick one with --output, or .npz")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"{out}: its folder does not exist")


def write_results(
    out: Path | None, batches: Iterator[Outputs], names: tuple[str, ...], count: int, *, batchable: bool, nan: NanPolicy
) -> None:
    """Write the outputs ``names`` of all ``batches``, ``count`` rows together. CSV and numeric NPY are written batch
    by batch. ``out`` appears only when it is complete."""
    if out is None:
        click.echo(_json(_collect(batches, names), names, batchable, nan))
        return
    part = out.with_name(f"{out.name}.part")
    try:
        suffix = out.suffix.lower()
        if suffix == ".csv":
            _write_csv(part, batches, names)
        elif suffix == ".npy":
            _write_npy(part, batches, names[0], count, batchable)
        elif suffix == ".npz":
            part.write_bytes(write_npz(_collect(batches, names)))
        else:
            part.write_bytes(_json(_collect(batches, names), names, batchable, nan))
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


def _collect(batches: Iterator[Outputs], names: tuple[str, ...]) -> Outputs:
    parts = list(batches)
    return {name: parts[0][name] if len(parts) == 1 else np.concatenate([p[name] for p in parts]) for name in names}


def _json(outputs: Outputs, names: tuple[str, ...], batchable: bool, nan: NanPolicy) -> bytes:
    return JsonReply(names, "rows" if batchable else "one", nan).encode(outputs)[0]


def _write_npy(part: Path, batches: Iterator[Outputs], name: str, count: int, batchable: bool) -> None:
    first = next(batches)[name]
    if first.dtype.kind not in "biuf" or not batchable:
        part.write_bytes(write_npy(_collect(chain([{name: first}], batches), (name,))[name]))
        return
    mapped = np.lib.format.open_memmap(part, mode="w+", dtype=first.dtype, shape=(count, *first.shape[1:]))
    done = 0
    for array in chain([first], (outputs[name] for outputs in batches)):
        mapped[done : done + len(array)] = array
        done += len(array)
    mapped.flush()


def _write_csv(part: Path, batches: Iterator[Outputs], names: tuple[str, ...]) -> None:
    with part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        for number, outputs in enumerate(batches):
            if number == 0:
                writer.writerow(chain.from_iterable(_csv_header(name, outputs[name]) for name in names))
            columns = [_csv_rows(outputs[name]) for name in names]
            writer.writerows(list(chain.from_iterable(parts)) for parts in zip(*columns, strict=True))


def _csv_header(name: str, array: np.ndarray) -> list[str]:
    if array.ndim not in (1, 2):
        raise ConfigError(f"output {name!r} has {array.ndim} dimensions: CSV cannot hold it; write .npz or .json")
    return [name] if array.ndim == 1 or array.shape[1] == 1 else [f"{name}_{i}" for i in range(array.shape[1])]


def _csv_rows(array: np.ndarray) -> list[list[Any]]:
    values = to_json(array)
    return [[value] for value in values] if array.ndim == 1 else values  # type: ignore[no-any-return]
