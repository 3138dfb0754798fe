"""Runs TensorFlow's SavedModels with all their signatures, and Keras 3 files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from inferd.abc import ModelMetadata
from inferd.core.config import ModelConfig
from inferd.core.errors import InvalidInput, LoadFailed, MissingExtra
from inferd.core.tensors import Signature, TensorSpec, datatype_name
from inferd.runtimes.configured import configured_signature, intra_op_threads, is_batchable, reason
from inferd.runtimes.text import as_tensor

SAVED_MODEL = "saved_model.pb"
SERVING_DEFAULT = "serving_default"
"""The signature that TensorFlow exports under this name is the default one."""
_SUFFIX = ".keras"

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]]


class TensorFlowModel:
    """One SavedModel or Keras model. ``runs`` executes each signature by its name, the default first."""

    user_code = False
    concurrent = True

    def __init__(
        self, signatures: Mapping[str, Signature], runs: Mapping[str, Run], metadata: ModelMetadata, config: ModelConfig
    ) -> None:
        default = next(iter(signatures.values()))
        configured = configured_signature(default.inputs, default.outputs, config)
        self.signatures = {**signatures, **_named(signatures, configured)}
        self.metadata = metadata
        self.batchable = all(is_batchable(each, config) for each in self.signatures.values())
        self._runs: dict[str, Run] = {**runs, "": next(iter(runs.values()))}
        self._names = {name: each.output_names for name, each in self.signatures.items()}
        self._names[""] = next(iter(self.signatures.values())).output_names

    def execute(
        self,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        parameters: Mapping[str, Any],
        signature: str,
    ) -> Mapping[str, np.ndarray]:
        """See ``Model``. Raises ``InvalidInput`` for values that the graph itself refuses."""
        import tensorflow as tf

        try:
            answer = self._runs[signature](inputs)
        except tf.errors.InvalidArgumentError as error:
            raise InvalidInput(str(error.message).strip().splitlines()[0][:300]) from error
        return {name: as_tensor(answer[name].numpy()) for name in outputs or self._names[signature]}

    def close(self) -> None:
        """Let go of the graph."""
        self._runs.clear()


class TensorFlowRuntime:
    """Loads folders that hold a ``saved_model.pb``, and ``.keras`` files; the latter without code of their own (Lambda
    layers are refused)."""

    api_version = 1
    name = "tensorflow"
    extra = "tensorflow"
    takes = ".keras, folders with a saved_model.pb"

    def claims(self, artefact: Path) -> bool:
        """By the file in a folder that makes it a SavedModel, or by its suffix."""
        return (artefact / SAVED_MODEL).is_file() or (artefact.suffix.lower() == _SUFFIX and artefact.is_file())

    def load(self, config: ModelConfig, artefact: Path, device: str) -> TensorFlowModel:
        """Load onto the CPU or, where TensorFlow sees one, the GPU."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        load_compiler_first()
        try:
            import tensorflow as tf
        except ImportError as error:
            raise MissingExtra(artefact.name, self.extra) from error
        _set_up(intra_op_threads(config))
        place = _device(device)
        try:
            with tf.device(place):
                found = _saved_model(artefact) if artefact.is_dir() else _keras(artefact)
        except LoadFailed:
            raise
        # Neither TensorFlow nor Keras has one class for what may be wrong with a file.
        except Exception as error:
            raise LoadFailed(f"TensorFlow cannot load {artefact.name}: {reason(error, artefact)}") from error
        signatures, runs = found
        metadata = ModelMetadata(
            runtime_version=tf.__version__,
            platform="tensorflow_savedmodel" if artefact.is_dir() else "keras",
            device="cuda:0" if place.startswith("/GPU") else "cpu",
        )
        return TensorFlowModel(signatures, runs, metadata, config)


def load_compiler_first() -> None:
    """To be called before TensorFlow is imported. PyTorch for GPUs brings the compiler Triton, which has an LLVM of its
    own, as TensorFlow has; the process dies when Triton is imported after TensorFlow, and not the other way round."""
    with suppress(ImportError):
        import triton  # noqa: F401


@cache
def _set_up(threads: int) -> None:
    """What is TensorFlow's for the whole process: the first model's threads, and memory taken as it is needed."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:  # somebody has used TensorFlow before
        pass


def _device(device: str) -> str:
    """TensorFlow's name of a device. Raises ``LoadFailed`` for one that is not there."""
    import tensorflow as tf

    gpus = len(tf.config.list_physical_devices("GPU"))
    if device == "cpu" or (device == "auto" and not gpus):
        return "/CPU:0"
    number = 0 if device == "auto" else int(device.removeprefix("cuda:") or 0) if device.startswith("cuda:") else -1
    if not 0 <= number < gpus:
        raise LoadFailed(f"TensorFlow sees no device {device!r}; it sees {gpus} GPUs")
    return f"/GPU:{number}"


def _saved_model(folder: Path) -> tuple[dict[str, Signature], dict[str, Run]]:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    functions = dict(loaded.signatures)
    if not functions:
        raise LoadFailed(f"{folder.name} has no signature; export it with signatures={{'serving_default': ...}}")
    names = sorted(functions, key=lambda name: (name != SERVING_DEFAULT, name))
    signatures, runs = {}, {}
    for name in names:
        function = functions[name]
        taken = function.structured_input_signature[1]
        given = function.structured_outputs
        inputs = tuple(_spec(each, taken[each]) for each in sorted(taken))
        outputs = tuple(_spec(each, given[each]) for each in sorted(given))
        signatures[name] = Signature(inputs, outputs, name)
        runs[name] = _runner(function, loaded)
    return signatures, runs


def _runner(function: Any, owner: Any) -> Run:
    """``owner`` holds the variables and must live as long."""
    import tensorflow as tf

    def run(inputs: Mapping[str, np.ndarray], kept: Any = owner) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = function(**{name: tf.constant(_plain(array)) for name, array in inputs.items()})
        return answer

    return run


def _keras(file: Path) -> tuple[dict[str, Signature], dict[str, Run]]:
    import keras
    import tensorflow as tf

    model = keras.models.load_model(file, compile=False, safe_mode=True)
    if keras.backend.backend() != "tensorflow":
        raise LoadFailed(f"Keras uses {keras.backend.backend()} here; set KERAS_BACKEND=tensorflow")
    taken = [tf.TensorSpec(each.shape, each.dtype, each.name) for each in model.inputs]
    names = [spec.name for spec in taken]
    single = len(taken) == 1
    function = tf.function(lambda *tensors: model(tensors[0] if single else list(tensors), training=False), taken)
    # A Sequential model is called after its last layer, as in the functional API.
    named = getattr(model, "output_names", None) or [model.layers[-1].name]
    outputs = [_spec(name, each) for name, each in zip(named, model.outputs, strict=True)]

    def run(inputs: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        answer = function(*(tf.constant(_plain(inputs[name])) for name in names))
        parts = list(answer) if isinstance(answer, list | tuple) else [answer]
        return dict(zip((spec.name for spec in outputs), parts, strict=True))

    signature = Signature(tuple(_spec(spec.name, spec) for spec in taken), tuple(outputs), SERVING_DEFAULT)
    return {SERVING_DEFAULT: signature}, {SERVING_DEFAULT: run}


def _spec(name: str, tensor: Any) -> TensorSpec:
    import tensorflow as tf

    if tensor.shape is None or tf.TensorShape(tensor.shape).rank is None:
        raise LoadFailed(f"tensor {name!r} has no rank; export the model with the shapes of its signature")
    dtype = tf.as_dtype(tensor.dtype)
    datatype = "BYTES" if dtype == tf.string else datatype_name(np.dtype(dtype.as_numpy_dtype))
    return TensorSpec(name, datatype, tuple(-1 if size is None else int(size) for size in tensor.shape))


def _plain(array: np.ndarray) -> Any:
    """Text as a list, which TensorFlow reads as bytes; the rest as it is."""
    return array.tolist() if array.dtype == object else array


def _named(signatures: Mapping[str, Signature], configured: Mapping[str, Signature]) -> dict[str, Signature]:
    """The default signature as configured, under its own name."""
    name = next(iter(signatures))
    (changed,) = configured.values()
    return {name: Signature(changed.inputs, changed.outputs, name)}


RUNTIME = TensorFlowRuntime()
