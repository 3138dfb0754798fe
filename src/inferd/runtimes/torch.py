"""Runs PyTorch programs: torch.export, AOTInductor packages, TorchScript; pickled modules where those are allowed."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inferd.abc import ModelMetadata
from inferd.core.config import ModelConfig
from inferd.core.errors import LoadFailed, MissingExtra
from inferd.core.tensors import Signature, TensorSpec, datatype_name, example_inputs
from inferd.runtimes.configured import MODEL_TOML, configured_signature, intra_op_threads, is_batchable, reason

Tensors = Mapping[str, np.ndarray]
# Both archive layouts of torch.export: since 2.7, and before.
_EXPORT_MARKS = ("/archive_format", "serialized_exported_program.json")
_EXPORT_LINE = (
    "torch.export.save(torch.export.export(model.eval(), (example,), "
    "dynamic_shapes=({0: torch.export.Dim('batch')},)), 'model.pt2')"
)


@dataclass(frozen=True, slots=True)
class _Program:
    """A loaded program: ``call`` takes torch tensors in the order of ``inputs`` and answers in that of ``outputs``.

    ``rows`` bounds the batch it was made for. ``keeps_inputs`` is true when it is known not to write to its inputs.
    ``batched`` is false when the first dimension is known not to be one of rows.
    """

    call: Callable[..., Sequence[Any]]
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    platform: str
    rows: tuple[int, int] = (1, 2**31)
    keeps_inputs: bool = False
    batched: bool = True
    user_code: bool = False


class TorchModel:
    """A program in inference mode. Running does not change it, so instances share it."""

    concurrent = True

    def __init__(self, program: _Program, config: ModelConfig, device: str) -> None:
        import torch

        self._torch = torch
        self._program = program
        self._device = device
        self._inputs = [spec.name for spec in program.inputs]
        self._outputs = [spec.name for spec in program.outputs]
        self.signatures = configured_signature(program.inputs, program.outputs, config)
        signature = next(iter(self.signatures.values()))
        self._names = signature.output_names
        self.batchable = is_batchable(signature, config) and (program.batched or bool(config.batchable))
        self.user_code = program.user_code
        self.metadata = ModelMetadata(runtime_version=torch.__version__, platform=program.platform, device=device)

    def execute(
        self, inputs: Tensors, outputs: Sequence[str], parameters: Mapping[str, Any], signature: str
    ) -> Tensors:
        """One call of the program; more where it was exported for fewer rows than there are."""
        arrays = [inputs[name] for name in self._inputs]
        least, most = self._program.rows
        with self._torch.inference_mode():
            rows = len(arrays[0]) if self.batchable else least
            if least <= rows <= most:
                values = self._call(arrays)
            elif rows > most:
                values = self._call_in_parts(arrays, rows, most)
            else:  # too few: repeat the last row, and drop what it answers
                padded = [np.concatenate([array, np.repeat(array[-1:], least - rows, axis=0)]) for array in arrays]
                values = [value[:rows] for value in self._call(padded)]
        named = dict(zip(self._outputs, values, strict=True))
        return {name: named[name] for name in outputs or self._names}

    def _call(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        tensors = [self._to_torch(array) for array in arrays]
        return [value.cpu().numpy() for value in self._program.call(*tensors)]

    def _call_in_parts(self, arrays: Sequence[np.ndarray], rows: int, most: int) -> list[np.ndarray]:
        # Equal parts, so that the last one cannot fall below the least number of rows.
        parts = zip(*(np.array_split(array, -(-rows // most)) for array in arrays), strict=True)
        return [np.concatenate(values) for values in zip(*map(self._call, parts), strict=True)]

    def _to_torch(self, array: np.ndarray) -> Any:
        """Without a copy where the program leaves its inputs alone, on the CPU, if the array is aligned."""
        if not self._program.keeps_inputs:
            array = array.copy()
        elif not array.flags.aligned or not array.flags.c_contiguous:
            array = np.require(array, requirements=["A", "C"]).copy()
        elif not array.flags.writeable:
            array = np.asarray(_Writable(array))
        tensor = self._torch.from_numpy(array)
        return tensor if self._device == "cpu" else tensor.to(self._device)

    def close(self) -> None:
        """Let go of the program and its weights."""
        del self._program


class _Writable:
    """A read-only array under a writable flag, because torch warns of read-only memory. Only for programs that are
    known not to write."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, array: np.ndarray) -> None:
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}
        self.owner = array


class TorchRuntime:
    """Loads ``.pt2`` (torch.export, AOTInductor), ``.pt``, ``.pth`` and ``.ts`` (TorchScript, pickled modules).

    What a file is shows in its archive's contents, before anything of it is loaded; nothing is unpickled without
    ``allow_pickle``. An AOTInductor package is compiled code: load one only from where you would run a program.
    Intra-op threads are PyTorch's process-wide setting; the model loaded last decides.
    """

    api_version = 1
    name = "torch"
    extra = "torch"
    takes = ".pt2, .pt, .pth, .ts"

    def claims(self, artefact: Path) -> bool:
        """By its suffix."""
        return artefact.suffix.lower() in (".pt2", ".pt", ".pth", ".ts")

    def load(self, config: ModelConfig, artefact: Path, device: str) -> TorchModel:
        """Load onto ``device``: "auto" (the first GPU, if any), "cpu" or "cuda:N"."""
        try:
            import torch
        except ImportError as error:
            raise MissingExtra(artefact.name, self.extra) from error
        device = _device(device)
        torch.set_num_threads(intra_op_threads(config))
        try:
            program = _loader(artefact)(config, artefact, device)
        except LoadFailed:
            raise
        except Exception as error:  # torch raises anything from OSError to RuntimeError for a file it cannot read
            raise LoadFailed(f"{artefact.name} cannot be loaded by PyTorch: {reason(error, artefact)}") from error
        return TorchModel(program, config, device)


def _device(device: str) -> str:
    import torch

    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if device != "cpu" and not torch.cuda.is_available():
        raise LoadFailed(f"device {device!r} is not there: this PyTorch sees no GPU")
    return device


def _loader(artefact: Path) -> Callable[[ModelConfig, Path, str], _Program]:
    """Choose by what the file contains, not by its suffix."""
    if not zipfile.is_zipfile(artefact):
        with artefact.open("rb") as file:
            if file.read(1) != b"\x80":
                raise LoadFailed(f"{artefact.name} is not a PyTorch file")
        return _load_pickle
    with zipfile.ZipFile(artefact) as archive:
        names = archive.namelist()
    if any("/data/aotinductor/" in name for name in names):
        return _load_compiled
    if any(name.endswith(_EXPORT_MARKS) for name in names):
        return _load_exported
    if any(name.endswith("/constants.pkl") for name in names):
        return _load_script
    return _load_pickle


def _load_exported(config: ModelConfig, artefact: Path, device: str) -> _Program:
    import torch

    if not config.allow_pickle:
        _refuse_pickles(artefact)
    exported = torch.export.load(artefact)
    if device != "cpu":
        from torch.export.passes import move_to_device_pass

        exported = move_to_device_pass(exported, device)
    signature = exported.graph_signature
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
    positional, keywords = _arguments(exported.call_spec.in_spec)
    inputs = [_spec(name, values[name]) for name in signature.user_inputs]
    if len(inputs) != positional + len(keywords):
        raise LoadFailed(f"{artefact.name} takes nested inputs; export a module that takes tensors")
    names = _output_names(exported.call_spec.out_spec, len(signature.user_outputs), config)
    outputs = [_spec(name, values[key]) for name, key in zip(names, signature.user_outputs, strict=True)]
    leading = {
        str(values[key].shape[0]) for key in (*signature.user_inputs, *signature.user_outputs) if values[key].ndim
    }
    module = exported.module()

    def call(*tensors: Any) -> Sequence[Any]:
        return _flat(module(*tensors[:positional], **dict(zip(keywords, tensors[positional:], strict=True))))

    return _Program(
        call,
        inputs,
        outputs,
        "pytorch_export",
        rows=_row_bounds(exported.range_constraints, leading),
        keeps_inputs=not any(map(_writes, exported.graph.nodes)),
        batched=len(leading) == 1,  # every first dimension is the same symbol
    )


def _refuse_pickles(artefact: Path) -> None:
    """torch.export.load unpickles example inputs and tensor subclasses without a check: look at them first."""
    with zipfile.ZipFile(artefact) as archive:
        if any(_is_pickle(name, archive.read(name)) for name in archive.namelist() if name.endswith((".pt", ".json"))):
            raise LoadFailed(
                f"{artefact.name} holds pickled objects besides tensors, and loading a pickle runs any code that is in "
                "it: export it without them, or pass --allow-pickle if you trust where it came from",
                hint="--allow-pickle",
            )


def _is_pickle(name: str, content: bytes) -> bool:
    """Whether an archive's member holds more than tensors, or says that another one does."""
    import torch

    if name.endswith(".json"):
        return re.search(rb'"use_pickle": *true', content) is not None
    try:
        return bool(content) and torch.load(io.BytesIO(content), weights_only=True, map_location="meta") is None
    except Exception:  # the restricted unpickler refuses it, whatever it is
        return True


def _writes(node: Any) -> bool:
    """Whether a step writes to any tensor. Whose memory it is does not show, so one is enough to copy the inputs."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _arguments(in_spec: Any) -> tuple[int, list[str]]:
    """How many positional arguments the module takes, and the names of its keyword arguments."""
    children = in_spec.children() if hasattr(in_spec, "children") else in_spec.children_specs
    return children[0].num_children, list(children[1].context)


def _spec(name: str, value: Any) -> TensorSpec:
    """The spec of a tensor, real or traced: a symbolic dimension is free."""
    import torch

    if not isinstance(value, torch.Tensor):
        raise LoadFailed(f"{name!r} is not a tensor, and cannot be served")
    try:
        datatype = datatype_name(torch.empty(0, dtype=value.dtype).numpy().dtype)
    except (TypeError, ValueError):
        raise LoadFailed(f"{name!r} is {value.dtype}, which cannot be served: cast it in the model") from None
    return TensorSpec(name, datatype, tuple(size if isinstance(size, int) else -1 for size in value.shape))


def _row_bounds(constraints: Mapping[Any, Any], leading: set[str]) -> tuple[int, int]:
    """The fewest and most rows it was exported for; unbounded ends are large numbers."""
    for symbol, bounds in constraints.items():
        if str(symbol) in leading:
            return max(int(bounds.lower), 1), int(min(bounds.upper, 2**31))
    return 1, 2**31


def _output_names(out_spec: Any, count: int, config: ModelConfig) -> list[str]:
    """A dict's keys; else the configured names, when they fit; else ``output``, or ``output_0`` and so on."""
    keys = out_spec.context if out_spec is not None and out_spec.type is dict else None
    if keys and len(keys) == count:
        return [str(key) for key in keys]
    if len(config.outputs) == count:
        return [spec.name for spec in config.outputs]
    return ["output"] if count == 1 else [f"output_{index}" for index in range(count)]


def _flat(result: Any) -> Sequence[Any]:
    """The tensors of an answer, which may be one, a sequence or a dict of them."""
    if isinstance(result, Mapping):
        return list(result.values())
    return result if isinstance(result, (tuple, list)) else [result]


def _load_compiled(config: ModelConfig, artefact: Path, device: str) -> _Program:
    import torch

    index = int(device.partition(":")[2] or -1)
    package = torch._inductor.aoti_load_package(str(artefact), device_index=index)
    return _described(package, config, artefact, "pytorch_aotinductor", device)


def _load_script(config: ModelConfig, artefact: Path, device: str) -> _Program:
    import torch

    module: Any = torch.jit.load(str(artefact), map_location=device)  # type: ignore[no-untyped-call]  # torch has none
    names = [argument.name for argument in module.forward.schema.arguments[1:]]
    return _described(module.eval(), config, artefact, "pytorch_torchscript", device, names)


def _load_pickle(config: ModelConfig, artefact: Path, device: str) -> _Program:
    """A pickled module when that is allowed; weights alone are refused in any case."""
    import torch

    try:
        # The restricted unpickler, without reading the weights: is there anything but tensors?
        torch.load(artefact, weights_only=True, map_location="meta")
    except Exception:
        if not config.allow_pickle:
            raise LoadFailed(
                f"{artefact.name} is a pickled module, and loading a pickle runs any code that is in it: save it with "
                f"{_EXPORT_LINE}, or pass --allow-pickle if you trust where it came from",
                hint="--allow-pickle",
            ) from None
        module = torch.load(artefact, weights_only=False, map_location=device)
        if isinstance(module, torch.nn.Module):
            return _described(module.eval(), config, artefact, "pytorch_module", device, user_code=True)
    raise LoadFailed(
        f"{artefact.name} holds weights without the program that uses them (a state dict): build the module, load "
        f"them into it, and save it with {_EXPORT_LINE}"
    )


def _described(
    module: Any,
    config: ModelConfig,
    artefact: Path,
    platform: str,
    device: str,
    names: Sequence[str] = (),
    user_code: bool = False,
) -> _Program:
    """A program that does not tell its shapes: the configuration gives the inputs, two runs show the outputs."""
    import torch

    if not config.inputs or (names and sorted(names) != sorted(spec.name for spec in config.inputs)):
        wanted = ", ".join(f'{{name = "{name}", datatype = "FP32", shape = [-1, 4]}}' for name in names or ["x"])
        raise LoadFailed(
            f"{artefact.name} does not tell its inputs: write input = [{wanted}], "
            f"with the datatypes and shapes they have, into {MODEL_TOML}"
        )
    given = {spec.name: spec for spec in config.inputs}
    inputs = [given[name] for name in names or given]

    def run(rows: int) -> Any:
        example = example_inputs(Signature(tuple(inputs), ()), rows)
        with torch.inference_mode():
            return module(*(torch.from_numpy(example[spec.name]).to(device) for spec in inputs))

    answer = run(2)
    few, more = _flat(answer), _flat(run(3))
    keys = list(answer) if isinstance(answer, Mapping) else _output_names(None, len(few), config)
    outputs = [_observed(name, *pair) for name, pair in zip(keys, zip(few, more, strict=True), strict=True)]
    return _Program(lambda *tensors: _flat(module(*tensors)), inputs, outputs, platform, user_code=user_code)


def _observed(name: str, few: Any, more: Any) -> TensorSpec:
    """The spec of an output that was seen twice: what changed with the rows is free."""
    spec = _spec(name, few)
    free = [size if size == other else -1 for size, other in zip(few.shape, more.shape, strict=True)]
    return TensorSpec(name, spec.datatype, tuple(free))


RUNTIME = TorchRuntime()
