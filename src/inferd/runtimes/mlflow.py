"""Runs model folders that MLflow saved, through the python function in them."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from inferd.abc import ModelMetadata
from inferd.core.config import ModelConfig
from inferd.core.errors import InvalidInput, InvalidRequest, LoadFailed, MissingExtra
from inferd.core.tensors import Signature, TensorSpec, compile_check, datatype_name
from inferd.runtimes.configured import configured_signature, is_batchable, only_cpu
from inferd.runtimes.mlflow_schema import Reading, binary_names, declared_outputs, reading, tensors_of
from inferd.runtimes.mlflow_trust import FILE, check_trust, is_library
from inferd.runtimes.tensorflow import load_compiler_first
from inferd.runtimes.user_code import loading, readable

logger = logging.getLogger("inferd.runtimes")

Arrays = Mapping[str, np.ndarray]
_CALLERS_MISTAKES = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


class MLflowModel:
    """One python function. Inputs are its signature's columns, [-1] each, or its tensors. Outputs have the names of a
    data frame's columns; an answer without names is ``predictions``.

    Rows of several callers are put together for a library's model, for code of one's own only where the configuration
    says ``batchable``. ``example`` is the input example that was saved with the model.
    """

    concurrent = False

    def __init__(self, function: Any, config: ModelConfig, *, user_code: bool) -> None:
        self.user_code = user_code
        self._function = function
        meta = function.metadata
        self._is_library = is_library(meta.flavors["python_function"])
        schema = meta.get_params_schema()
        self._parameters = {parameter.name for parameter in schema} if schema else set()
        self._reading = reading(meta, config)
        self._binary_outputs: tuple[str, ...] = ()
        saved = _saved(self._reading, function.input_example)
        self.signatures = configured_signature(self._reading.specs, self._outputs(saved), config)
        signature = next(iter(self.signatures.values()))
        self._specs = {spec.name: spec for spec in signature.outputs}
        self.batchable = is_batchable(signature, config) and (self._is_library or bool(config.batchable))
        rows = saved or (self._reading.made_up() if self._reading.dates else None)
        self.example = _fitting(rows, signature, batchable=self.batchable) if rows else None
        self.metadata = _metadata(meta, self._reading.binary, self._binary_outputs)

    def _outputs(self, saved: Arrays | None) -> Sequence[TensorSpec]:
        """What the function answers to two rows: of the example, or made up. What it declares, if it refuses these."""
        specs = self._reading.specs
        rows = saved or self._reading.made_up()
        if all(spec.shape[:1] == (-1,) for spec in specs):
            rows = {name: np.take(array, np.arange(2) % len(array), axis=0) for name, array in rows.items()}
        declared = declared_outputs(self._function.metadata.get_output_schema())
        try:
            made = self._function.predict(self._reading.read(rows))
            answer = tensors_of(made)
        # Whatever the function raises, made-up rows may be the reason.
        except Exception as error:
            if declared:
                return declared
            hint = "" if saved else "; save it with an input_example, or with the outputs in its signature"
            raise LoadFailed(f"the model fails on two rows of example values{hint}: {readable(error, FILE)}") from error
        self._binary_outputs = binary_names(made)
        shapes = {spec.name: spec.shape for spec in declared}
        return [_spec(name, array, shapes.get(name)) for name, array in answer.items()]

    def execute(self, inputs: Arrays, outputs: Sequence[str], parameters: Mapping[str, Any], signature: str) -> Arrays:
        """See ``Model``. Parameters that the model does not declare are left out, as MLflow does. Raises
        ``InvalidInput`` for what MLflow, or a library's own validation, refuses."""
        from mlflow.exceptions import MlflowException

        chosen = {name: value for name, value in parameters.items() if name in self._parameters}
        data = self._reading.read(inputs)
        try:
            answer = tensors_of(self._function.predict(data, params=chosen or None))
        except MlflowException as error:
            if error.error_code not in _CALLERS_MISTAKES:
                raise
            raise InvalidInput(error.message.strip().splitlines()[0][:300]) from error
        except ValueError as error:
            if not self._is_library:
                raise
            raise InvalidInput(str(error).strip().splitlines()[0][:300]) from error
        # A column of whole numbers may come as floats another time; what would lose something is an error.
        return {
            name: answer[name].astype(self._specs[name].dtype, casting="same_kind", copy=False)
            for name in outputs or self._specs
        }

    def close(self) -> None:
        """Let go of the function."""
        del self._function


class MLflowRuntime:
    """Loads folders that hold an ``MLmodel`` file with the ``python_function`` flavour; it makes no environments.

    A payload that may hold a pickle is loaded with ``allow_pickle`` only. Option ``trusted`` lists types that a skops
    payload may hold besides those skops knows.
    """

    api_version = 1
    name = "mlflow"
    extra = "mlflow"
    takes = "folders with an MLmodel"

    def claims(self, artefact: Path) -> bool:
        """By the file that describes it."""
        return (artefact / FILE).is_file()

    def load(self, config: ModelConfig, artefact: Path, device: str) -> MLflowModel:
        """Load onto the CPU, into this process."""
        # No statistics are sent anywhere, and MLflow's log lines go where the server's go.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")
        try:
            import mlflow.pyfunc
        except ImportError as error:
            raise MissingExtra(artefact.name, self.extra) from error
        only_cpu("MLflow", device)
        if not self.claims(artefact):
            raise LoadFailed(f"{artefact.name} is not a folder with a file {FILE}")
        folder = artefact.resolve()  # MLflow refuses what lies outside of a path it is given
        with loading(None, FILE):
            flavours = mlflow.models.Model.load(str(folder / FILE)).flavors
            if "python_function" not in flavours:
                raise LoadFailed(f"{FILE} has no flavour python_function: save the model by its framework's log_model")
            library_only = check_trust(flavours, folder, config)
            if flavours["python_function"].get("loader_module") == "mlflow.tensorflow":
                _prepare_tensorflow()
        with _own_modules(folder, flavours["python_function"]):
            function = mlflow.pyfunc.load_model(str(folder))
        return MLflowModel(function, config, user_code=not library_only)


def _prepare_tensorflow() -> None:
    """So that MLflow can import it, and Keras draws no bar of progress for each request."""
    load_compiler_first()
    import keras

    keras.config.disable_interactive_logging()


@contextmanager
def _own_modules(folder: Path, conf: Mapping[str, Any]) -> Iterator[None]:
    """Load with the folder's code importable, and no other's: neither a path nor a module nor a model that was set
    stays behind for the next one to find."""
    import mlflow.models.model

    code = folder / str(conf["code"]) if conf.get("code") else None
    with loading(code, FILE):
        path, mlflow.models.model.__mlflow_model__ = sys.path, None
        try:
            yield
        finally:
            sys.path = path


def _saved(reading: Reading, example: Any) -> Arrays | None:
    """The input example that came with the model, as tensors; None where there is none that they hold."""
    if example is None:
        return None
    try:
        tensors = reading.write(example)
        return tensors if all(array.size for array in tensors.values()) else None
    # An example of another form than the signature's is no reason not to serve the model.
    except Exception as error:
        logger.warning("the input example is not used: %s", readable(error, FILE))
        return None


def _fitting(example: Arrays, signature: Signature, *, batchable: bool) -> Arrays | None:
    """``example`` in the datatypes of ``signature``, which the configuration may have changed; None if it cannot be."""
    given = {spec.name: example[spec.name].astype(spec.dtype) for spec in signature.inputs if spec.name in example}
    try:
        compile_check(signature, batchable=batchable)(given)
    except InvalidRequest as error:
        logger.warning("the input example is not used: %s", error.message)
        return None
    return given


def _spec(name: str, array: np.ndarray, declared: tuple[int, ...] | None) -> TensorSpec:
    shape = declared if declared and len(declared) == array.ndim else (-1, *array.shape[1:])
    return TensorSpec(name, datatype_name(array.dtype), shape if array.ndim else ())


def _metadata(meta: Any, binary_inputs: tuple[str, ...], binary_outputs: tuple[str, ...]) -> ModelMetadata:
    import mlflow

    flavours = [name for name in meta.flavors if name != "python_function"]
    told = {
        "flavour": ", ".join(flavours) or "python_function",
        "loader": meta.flavors["python_function"].get("loader_module"),
        "run_id": meta.run_id,
        "model_id": meta.model_id,
        "mlflow_version": meta.mlflow_version,
        "created": meta.utc_time_created,
    }
    return ModelMetadata(
        runtime_version=mlflow.__version__,
        platform="mlflow",
        binary_inputs=binary_inputs,
        binary_outputs=binary_outputs,
        provenance={key: str(value) for key, value in told.items() if value},
    )


RUNTIME = MLflowRuntime()
