"""Checks that a runtime keeps its contract; needs no test framework.

Call ``check_runtime`` with a real artefact of yours, inputs for it, and the outputs your framework computes for them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from inferd.abc import Model, Runtime
from inferd.core.config import ModelConfig
from inferd.core.errors import LoadFailed
from inferd.core.plugins import API_VERSION
from inferd.core.tensors import compile_check, numpy_dtype

Arrays = Mapping[str, np.ndarray]


def check_runtime(
    runtime: Runtime,
    artefact: Path,
    inputs: Arrays,
    expected: Arrays,
    *,
    tolerance: float = 1e-5,
    config: ModelConfig | None = None,
    framework: str = "",
) -> None:
    """Raise ``AssertionError``, with one sentence, at the first promise of ``inferd.abc.Runtime`` that is broken.

    ``inputs`` have the datatypes of the signature and, for a batchable model, two rows or more. ``expected`` are
    their outputs: floats are compared within ``tolerance``, absolute and relative, everything else exactly.
    ``framework`` is the module that must not be imported before ``load``; give it whenever there is one. The
    runtime's class must be importable and need no arguments.
    """
    config = config or ModelConfig(name="checked")
    _check_registration(runtime, artefact, framework)
    _check_refusal(runtime, config, artefact)
    model = runtime.load(config, artefact, "cpu")
    before = (dict(os.environ), os.getcwd())  # only now: importing a framework for the first time may set variables
    second = runtime.load(config, artefact, "cpu")
    _require(before == (dict(os.environ), os.getcwd()), "loading changed the environment or the working directory")
    _check_signatures(model, inputs, expected)
    _check_values(model, inputs, expected, tolerance)
    _check_subsets(model, inputs, expected, tolerance)
    _check_misaligned(model, inputs, tolerance)
    if model.batchable:
        _check_rows(model, inputs, expected, tolerance)
    if model.concurrent:
        _check_threads(model, inputs, expected, tolerance)
    model.close()
    _compare(_execute(second, inputs), expected, tolerance, "after another load of the same artefact was closed")
    second.close()


def _require(kept: bool, broken: str) -> None:
    if not kept:
        raise AssertionError(broken)


def _check_registration(runtime: Runtime, artefact: Path, framework: str) -> None:
    """Its names, what it claims, and that neither needs the framework."""
    _require(runtime.api_version == API_VERSION, f"api_version is {runtime.api_version}, this is {API_VERSION}")
    _require(bool(runtime.name) and isinstance(runtime.extra, str), "name must be text, extra text or empty")
    _require(runtime.claims(artefact), f"{artefact.name} is not claimed")
    _require(not runtime.claims(Path("notes.nobody-claims-this")), "a file of an unknown kind is claimed")
    if framework:
        _require(not _imports(runtime, artefact, framework), f"{framework} is imported before load")


def _imports(runtime: Runtime, artefact: Path, framework: str) -> bool:
    """Whether importing the runtime and asking what it claims imports ``framework``; seen in a new process, because
    this one may have it already."""
    kind = type(runtime)
    script = (
        f"import sys, pathlib; from {kind.__module__} import {kind.__qualname__} as runtime; "
        f"runtime().claims(pathlib.Path({str(artefact)!r})); print({framework!r} in sys.modules)"
    )
    return (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout != "False\n"
    )


def _check_refusal(runtime: Runtime, config: ModelConfig, artefact: Path) -> None:
    """A file with the right name and the wrong contents, and one that is not there."""
    with tempfile.TemporaryDirectory() as folder:
        broken = Path(folder, f"broken{artefact.suffix}")
        broken.write_bytes(b"\x00(this is no model")
        for path in (broken, Path(folder, f"absent{artefact.suffix}")):
            try:
                runtime.load(config, path, "cpu").close()
            except LoadFailed as error:
                _require("\n" not in error.message, f"the reason for {path.stem} is not one line: {error.message!r}")
                _require(folder not in error.message, f"the reason for {path.stem} shows a path of the server")
            except Exception as error:
                raise AssertionError(f"{path.name} raises {type(error).__name__}, not LoadFailed") from error
            else:
                raise AssertionError(f"{path.name} is loaded as if it were a model")


def _check_signatures(model: Model, inputs: Arrays, expected: Arrays) -> None:
    _require(bool(model.signatures), "there is no signature")
    for signature in model.signatures.values():
        for specs in (signature.inputs, signature.outputs):
            _require(len({spec.name for spec in specs}) == len(specs) > 0, "names are missing or given twice")
            for spec in specs:
                numpy_dtype(spec.datatype)
                free = spec.shape[:1] == (-1,)
                _require(free or not model.batchable, f"batchable, but {spec.name!r} is {list(spec.shape)}")
    default = next(iter(model.signatures.values()))
    _require(set(default.output_names) == set(expected), f"outputs are {default.output_names}, not {tuple(expected)}")
    compile_check(default, batchable=model.batchable)(inputs)


def _check_values(model: Model, inputs: Arrays, expected: Arrays, tolerance: float) -> None:
    """Right values of the declared types and shapes, from read-only inputs that stay as they were."""
    before = {name: array.copy() for name, array in inputs.items()}
    got = _execute(model, inputs)
    _compare(got, expected, tolerance, "for all outputs")
    for spec in next(iter(model.signatures.values())).outputs:
        array = got[spec.name]
        _require(isinstance(array, np.ndarray), f"output {spec.name!r} is a {type(array).__name__}, not an array")
        _require(array.dtype == spec.dtype, f"output {spec.name!r} is {array.dtype}, declared {spec.datatype}")
        _require(spec.accepts_shape(array.shape), f"output {spec.name!r} is {array.shape}, declared {spec.shape}")
        if spec.datatype == "BYTES":
            _require(all(type(item) is bytes for item in array.flat), f"output {spec.name!r} holds other than bytes")
    for name, array in inputs.items():
        _require(array.tobytes() == before[name].tobytes(), f"input {name!r} was changed")


def _check_subsets(model: Model, inputs: Arrays, expected: Arrays, tolerance: float) -> None:
    """Each output asked for alone comes alone."""
    for name in expected:
        _compare(_execute(model, inputs, (name,)), {name: expected[name]}, tolerance, f"when only {name!r} is asked")


def _check_misaligned(model: Model, inputs: Arrays, tolerance: float) -> None:
    """One request's tensors may start at any byte of its body."""
    one = {name: array[:1] for name, array in inputs.items()} if model.batchable else inputs
    shifted = {name: array if array.dtype == object else _misaligned(array) for name, array in one.items()}
    _compare(_execute(model, shifted), _execute(model, one), tolerance, "for misaligned inputs")


def _misaligned(array: np.ndarray) -> np.ndarray:
    body = b"\x00" + array.tobytes()
    return np.frombuffer(body, array.dtype, offset=1).reshape(array.shape)


def _check_rows(model: Model, inputs: Arrays, expected: Arrays, tolerance: float) -> None:
    """Each row alone gives what it gives among others."""
    rows = len(next(iter(inputs.values())))
    _require(rows > 1, "a batchable model is checked with two rows or more")
    for row in range(rows):
        alone = _execute(model, {name: array[row : row + 1] for name, array in inputs.items()})
        wanted = {name: array[row : row + 1] for name, array in expected.items()}
        _compare(alone, wanted, tolerance, f"for row {row} alone")


def _check_threads(model: Model, inputs: Arrays, expected: Arrays, tolerance: float) -> None:
    """A concurrent model answers several threads at once, each its own."""
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: _execute(model, inputs), range(16)):
            _compare(got, expected, tolerance, "in several threads at once")


def _execute(model: Model, inputs: Arrays, outputs: tuple[str, ...] = ()) -> Arrays:
    frozen = {name: array.view() for name, array in inputs.items()}
    for array in frozen.values():
        array.flags.writeable = False
    return model.execute(frozen, outputs, {}, "")


def _compare(got: Arrays, expected: Arrays, tolerance: float, when: str) -> None:
    _require(set(got) == set(expected), f"outputs are {sorted(got)} instead of {sorted(expected)} {when}")
    for name, wanted in expected.items():
        _require(got[name].shape == wanted.shape, f"{name!r} is {got[name].shape}, expected {wanted.shape} {when}")
        if wanted.dtype.kind == "f":
            same = np.allclose(got[name], wanted, tolerance, tolerance, equal_nan=True)
        else:
            same = np.array_equal(got[name], wanted)
        _require(bool(same), f"{name!r} is not what the framework computes {when}")
