"""Golden examples beside a version's artefact: inputs, and the outputs that the version must give for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from inferd.core.errors import ConfigError, InvalidRequest
from inferd.core.tensors import Signature, TensorSpec, compile_check
from inferd.core.whole_file import whole_file
from inferd.repository.artefact import has_file
from inferd.repository.warmup import Tensors, as_tensor

NPZ, JSON = "golden.npz", "golden.json"
_INPUT, _OUTPUT = "input.", "output."


@dataclass(frozen=True, slots=True)
class Golden:
    """``tolerances`` holds ``rtol`` and ``atol`` of outputs that have their own."""

    file: str
    inputs: Tensors
    outputs: Tensors
    tolerances: Mapping[str, tuple[float, float]]


def read_golden(folder: Path, signature: Signature, *, batchable: bool) -> Golden | None:
    """The examples in ``golden.npz`` (arrays named ``input.<name>`` and ``output.<name>``) or ``golden.json``
    (``{"inputs": {...}, "outputs": {...}, "tolerances": {"<output>": {"rtol": ..., "atol": ...}}}``); None when there
    are none. Raises ``ConfigError`` for a file that cannot be used."""
    if has_file(folder / NPZ):
        inputs, outputs = _read_npz(folder / NPZ)
        golden = Golden(NPZ, inputs, outputs, {})
    elif has_file(folder / JSON):
        golden = _read_json(folder / JSON, signature)
    else:
        return None
    try:
        rows, _ = compile_check(signature, batchable=batchable)(golden.inputs)
    except InvalidRequest as error:
        raise ConfigError(f"{golden.file}: {error.message}") from None
    for name in golden.outputs:
        if name not in signature.output_names:
            raise ConfigError(f"{golden.file}: no output {name!r}; there are {', '.join(signature.output_names)}")
    if not golden.outputs or not rows:
        raise ConfigError(f"{golden.file} has no {'rows' if golden.outputs else 'output to compare'}")
    return golden


def write_golden(file: Path, inputs: Tensors, outputs: Tensors) -> None:
    """Write ``golden.npz``; text becomes bytes of one width. Raises ``LoadFailed`` when the disk refuses."""
    arrays = {
        f"{prefix}{name}": array.astype("S") if array.dtype.kind in "OU" else array
        for prefix, named in ((_INPUT, inputs), (_OUTPUT, outputs))
        for name, array in named.items()
    }
    with whole_file(file) as out:
        np.savez_compressed(out, **arrays)  # type: ignore[arg-type]


def _read_npz(file: Path) -> tuple[Tensors, Tensors]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: as_tensor(archive[name]) for name in archive.files}
    except Exception as error:  # numpy, zipfile and zlib share no base class
        raise ConfigError(f"{file.name} is not a readable NPZ file: {error}") from None
    for name in arrays:
        if not name.startswith((_INPUT, _OUTPUT)):
            raise ConfigError(f"{file.name}: {name!r} is neither 'input.<name>' nor 'output.<name>'")
    return (
        {name.removeprefix(_INPUT): array for name, array in arrays.items() if name.startswith(_INPUT)},
        {name.removeprefix(_OUTPUT): array for name, array in arrays.items() if name.startswith(_OUTPUT)},
    )


def _read_json(file: Path, signature: Signature) -> Golden:
    try:
        tree = orjson.loads(file.read_bytes())
        inputs = {name: _array(value, _spec(signature.inputs, name)) for name, value in tree["inputs"].items()}
        outputs = {name: _array(value, _spec(signature.outputs, name)) for name, value in tree["outputs"].items()}
        tolerances = {
            name: (float(each.get("rtol", 0)), float(each.get("atol", 0)))
            for name, each in tree.get("tolerances", {}).items()
        }
    except OSError as error:
        raise ConfigError(f"{file.name} cannot be read: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f'{file.name} must be {{"inputs": {{...}}, "outputs": {{...}}}} with whole tensors by name: '
            f"{type(error).__name__} {error}"
        ) from None
    return Golden(file.name, inputs, outputs, tolerances)


def _spec(specs: tuple[TensorSpec, ...], name: str) -> TensorSpec | None:
    return next((spec for spec in specs if spec.name == name), None)


def _array(value: Any, spec: TensorSpec | None) -> np.ndarray:
    """``value`` in the datatype of the signature, where that knows the name."""
    if spec is None:
        return np.array(value)
    return as_tensor(np.array(value)) if spec.datatype == "BYTES" else np.array(value, spec.dtype)
