"""Runs ONNX models with ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from inferd.abc import ModelMetadata
from inferd.core.config import ModelConfig
from inferd.core.errors import InvalidRequest, LoadFailed, MissingExtra
from inferd.core.tensors import Signature, TensorSpec, example_inputs
from inferd.runtimes.configured import configured_signature, intra_op_threads, is_batchable, reason

# ONNX Runtime's type strings that have an Open Inference Protocol datatype.
_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
# Converters of scikit-learn, LightGBM and XGBoost classifiers end in a ZipMap: one {class: probability} per row.
_MAP_TYPES = {
    "seq(map(int64,tensor(float)))": "FP32",
    "seq(map(string,tensor(float)))": "FP32",
}
_CLASS_KEYS = ("classes", "class_labels", "labels")


@dataclass(frozen=True, slots=True)
class _Output:
    """One output as the graph calls it, and as it is served. ``classes`` are the keys of a map, when known."""

    graph_name: str
    spec: TensorSpec
    is_map: bool = False
    classes: tuple[Any, ...] = ()


class OnnxModel:
    """A session. ONNX Runtime's ``run`` is thread-safe and releases the GIL, so instances share it."""

    concurrent = True
    user_code = False

    def __init__(self, session: Any, outputs: Sequence[_Output], config: ModelConfig, device: str) -> None:
        self._session = session
        self._run = session.run
        self._outputs = {output.spec.name: output for output in outputs}
        inputs = [TensorSpec(t.name, _datatype(t), _shape(t)) for t in session.get_inputs()]
        self.signatures = configured_signature(inputs, [output.spec for output in outputs], config)
        signature = next(iter(self.signatures.values()))
        self.batchable = is_batchable(signature, config) and _one_batch_symbol(session)
        self._names = signature.output_names
        self._text_inputs = [spec.name for spec in signature.inputs if spec.datatype == "BYTES"]
        self._plain = not self._text_inputs and all(
            output.graph_name == name and output.spec.datatype != "BYTES" and not output.is_map
            for name, output in self._outputs.items()
        )
        classes = next((output.classes for output in outputs if output.classes), ())
        self.metadata = _metadata(session, device, classes)

    def execute(
        self,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        parameters: Mapping[str, Any],
        signature: str,
    ) -> Mapping[str, np.ndarray]:
        """One ``session.run``. Raises ``InvalidRequest`` for text that is not UTF-8."""
        wanted = outputs or self._names
        feed = dict(inputs)
        # Nearly every model: numbers in and out under the graph's own names, nothing to convert.
        if self._plain:
            values = self._run(wanted, feed)
            return {wanted[0]: values[0]} if len(values) == 1 else dict(zip(wanted, values, strict=True))
        for name in self._text_inputs:
            feed[name] = _decoded(name, feed[name])
        chosen = [self._outputs[name] for name in wanted]
        values = self._run([output.graph_name for output in chosen], feed)
        return {output.spec.name: _served(output, value) for output, value in zip(chosen, values, strict=True)}

    def close(self) -> None:
        """Free the session: both references to it are dropped, its memory and threads go at once."""
        del self._session, self._run


class OnnxRuntime:
    """Loads ``.onnx`` and ``.ort`` files.

    Each session has its own pool of intra-op threads, which sleep when idle. ONNX Runtime's process-wide pool is not
    used: its threads spin after each run (8 times the CPU time of a small model) and that cannot be switched off
    from Python. With one intra-op thread there is no pool at all.
    """

    api_version = 1
    name = "onnx"
    extra = "onnx"
    takes = ".onnx, .ort"

    def claims(self, artefact: Path) -> bool:
        """By its suffix."""
        return artefact.suffix.lower() in (".onnx", ".ort")

    def load(self, config: ModelConfig, artefact: Path, device: str) -> OnnxModel:
        """Open a session on ``device``: "auto", "cpu", or "cuda:N" where that provider is installed."""
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtra(f"{artefact.name}", self.extra) from error
        providers, device = _providers(device, onnxruntime.get_available_providers())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = intra_op_threads(config)
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(artefact, options, providers=providers, enable_fallback=0)
        except Exception as error:  # ONNX Runtime's own classes have no common base
            raise LoadFailed(
                f"{artefact.name} is not a model ONNX Runtime can load: {reason(error, artefact)}"
            ) from error
        return OnnxModel(session, _outputs(session, config), config, device)


def _providers(device: str, available: Sequence[str]) -> tuple[list[Any], str]:
    """Execution providers for ``device``, and the device they really are."""
    kind, _, index = device.partition(":")
    has_cuda = "CUDAExecutionProvider" in available
    if kind == "cpu" or (kind == "auto" and not has_cuda):
        return ["CPUExecutionProvider"], "cpu"
    if kind not in ("auto", "cuda") or not has_cuda:
        raise LoadFailed(f"device {device!r} is not one of this ONNX Runtime's: {', '.join(available)}")
    return [("CUDAExecutionProvider", {"device_id": int(index or 0)}), "CPUExecutionProvider"], f"cuda:{index or 0}"


def _datatype(tensor: Any) -> str:
    try:
        return _DATATYPES[tensor.type]
    except KeyError:
        raise LoadFailed(f"{tensor.name!r} is a {tensor.type}, which cannot be served") from None


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else -1 for size in tensor.shape)


def _one_batch_symbol(session: Any) -> bool:
    """False when two inputs call their free first dimension by different names: then it is not the rows of a batch."""
    symbols = {tensor.shape[0] for tensor in session.get_inputs() if tensor.shape and isinstance(tensor.shape[0], str)}
    return len(symbols) <= 1


def _outputs(session: Any, config: ModelConfig) -> list[_Output]:
    """The outputs served; a classifier's are called ``label`` and ``probabilities`` however it was converted."""
    tensors = session.get_outputs()
    maps = [tensor for tensor in tensors if tensor.type in _MAP_TYPES]
    wanted = {spec.name for spec in config.outputs}
    result = []
    for tensor in tensors:
        if tensor in maps and len(maps) == 1:
            classes = _map_classes(session, tensor.name)
            spec = TensorSpec("probabilities", _MAP_TYPES[tensor.type], (-1, len(classes) or -1))
            result.append(_Output(tensor.name, spec, True, classes))
        elif maps and tensor.name in ("output_label", "label"):  # LightGBM's converter declares one row, wrongly
            result.append(_Output(tensor.name, TensorSpec("label", _datatype(tensor), (-1,))))
        elif not wanted or tensor.name in wanted:  # one that cannot be served is no obstacle when it is not asked for
            result.append(_Output(tensor.name, TensorSpec(tensor.name, _datatype(tensor), _shape(tensor))))
    return result


def _map_classes(session: Any, output: str) -> tuple[Any, ...]:
    """The keys of a map output. The graph's outline does not tell them, so one row of example values does."""
    inputs = [TensorSpec(tensor.name, _datatype(tensor), _shape(tensor)) for tensor in session.get_inputs()]
    feed = example_inputs(Signature(tuple(inputs), ()))
    for spec in inputs:
        if spec.datatype == "BYTES":
            feed[spec.name] = _decoded(spec.name, feed[spec.name])
    try:
        return tuple(session.run([output], feed)[0][0])
    except Exception:  # the example does not suit the model: it is served all the same, its classes unknown
        return ()


def _decoded(name: str, array: np.ndarray) -> np.ndarray:
    """``bytes`` to the ``str`` ONNX Runtime wants."""
    text = np.empty(array.shape, dtype=object)
    try:
        text.ravel()[:] = [item.decode() for item in array.ravel()]
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"input {name!r} holds text that is not UTF-8", tensor=name, offset=error.start) from None
    return text


def _served(output: _Output, value: Any) -> np.ndarray:
    """A value of ONNX Runtime as the tensor that is served: maps become a matrix, text becomes ``bytes``."""
    if output.is_map:
        # Maps are ordered by class, so their values are already columns. fromiter: 0.14 ms for 1,000 rows, lists 0.35.
        classes = len(value[0]) if value else 0
        flat = chain.from_iterable(row.values() for row in value)
        return np.fromiter(flat, output.spec.dtype, len(value) * classes).reshape(len(value), classes)
    if output.spec.datatype == "BYTES":
        text = np.empty(value.shape, dtype=object)
        text.ravel()[:] = [item.encode() for item in value.ravel()]
        return text
    return np.asarray(value)


def _metadata(session: Any, device: str, classes: tuple[Any, ...]) -> ModelMetadata:
    import onnxruntime

    meta = session.get_modelmeta()
    custom = dict(meta.custom_metadata_map)
    facts = {
        "producer": meta.producer_name,
        "domain": meta.domain,
        "graph": meta.graph_name,
        "description": meta.description,
        "model_version": str(meta.version or ""),
    }
    return ModelMetadata(
        runtime_version=onnxruntime.__version__,
        platform="onnx_onnxv1",
        device=device,
        classes=classes or _classes(custom),
        provenance={key: value for key, value in (facts | custom).items() if value},
    )


def _classes(custom: Mapping[str, str]) -> tuple[Any, ...]:
    """Class labels from the custom metadata: a JSON list, or names separated by commas."""
    text = next((custom[key] for key in _CLASS_KEYS if key in custom), "")
    try:
        labels: Iterable[Any] = json.loads(text)
    except ValueError:
        labels = [part.strip() for part in text.split(",") if part.strip()]
    return tuple(labels) if isinstance(labels, list) else ()


RUNTIME = OnnxRuntime()
