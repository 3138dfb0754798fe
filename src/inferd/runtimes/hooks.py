"""A user's ``hooks.py`` beside any artefact: its ``preprocess`` and ``postprocess`` wrap the loaded model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inferd.abc import Model
from inferd.core.config import ModelConfig
from inferd.core.errors import LoadFailed
from inferd.core.tensors import Signature, TensorSpec
from inferd.runtimes.annotations import (
    Argument,
    arguments_of,
    bind,
    collect,
    declared_specs,
    require_rows,
    results_of,
    takes_parameters,
)
from inferd.runtimes.user_code import import_file

Hook = Callable[..., Any]


def wrap(model: Model, hooks_file: Path, config: ModelConfig) -> Model:
    """``model`` with the functions of ``hooks_file`` around it: ``preprocess``, execute, ``postprocess``, per batch.

    With ``preprocess`` its annotated arguments are the public inputs (or the module's ``inputs``), and it returns the
    model's; with ``postprocess`` the public outputs are its return annotation (or the module's ``outputs``), and its
    arguments bear names of the model's outputs. The result is row-batched only if the module says
    ``batchable = True`` and the model is, and shared by several threads only by ``concurrent = True``.
    Raises ``LoadFailed`` saying what to write; the model is then the caller's to close.
    """
    module = import_file(hooks_file)
    where = hooks_file.name
    before = _hook(module, "preprocess", where)
    after = _hook(module, "postprocess", where)
    if before is None and after is None:
        raise LoadFailed(f"{where} defines neither preprocess nor postprocess")
    inner = next(iter(model.signatures.values()))
    arguments = arguments_of(before, declared_specs(module, "inputs"), f"{where}: preprocess") if before else ()
    outputs = results_of(after, declared_specs(module, "outputs"), f"{where}: postprocess") if after else inner.outputs
    taken = _taken(after, inner, f"{where}: postprocess") if after else ()
    signature = Signature(tuple(a.spec for a in arguments) if before else inner.inputs, outputs)
    batchable = bool(getattr(module, "batchable", False))
    if batchable and not model.batchable:
        raise LoadFailed(f"{where} says batchable = True, but the model itself does not take rows")
    if batchable:
        require_rows((*signature.inputs, *signature.outputs), where)
    concurrent = bool(getattr(module, "concurrent", False)) and model.concurrent
    return HookedModel(
        model, inner, signature, before, arguments, after, taken, batchable=batchable, concurrent=concurrent
    )


class HookedModel:
    """A model between its hooks."""

    user_code = True

    def __init__(
        self,
        model: Model,
        inner: Signature,
        signature: Signature,
        before: Hook | None,
        arguments: Sequence[Argument],
        after: Hook | None,
        taken: Sequence[str],
        *,
        batchable: bool,
        concurrent: bool,
    ) -> None:
        self.signatures: Mapping[str, Signature] = {signature.name: signature}
        self.metadata = model.metadata
        self.batchable = batchable
        self.concurrent = concurrent
        self.max_concurrency = getattr(model, "max_concurrency", 1) if concurrent else 1
        self._model = model
        self._inner = inner
        self._before = before
        self._arguments = arguments
        self._before_takes_parameters = before is not None and takes_parameters(before)
        self._after = after
        self._taken = taken
        self._after_takes_parameters = after is not None and takes_parameters(after)
        self._results: Sequence[TensorSpec] = signature.outputs

    def execute(
        self,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        parameters: Mapping[str, Any],
        signature: str,
    ) -> Mapping[str, np.ndarray]:
        """Preprocess, execute, postprocess one batch. The hooks' exceptions pass through; ``ExecutionFailed`` when
        what they return does not fit."""
        if self._before is not None:
            values = bind(self._arguments, inputs)
            if self._before_takes_parameters:
                values["parameters"] = parameters
            inputs = collect(self._inner.inputs, self._before(**values), "preprocess")
        if self._after is None:
            return self._model.execute(inputs, outputs, parameters, self._inner.name)
        raw = self._model.execute(inputs, self._taken, parameters, self._inner.name)
        values = {name: raw[name] for name in self._taken}
        if self._after_takes_parameters:
            values["parameters"] = parameters
        tensors = collect(self._results, self._after(**values), "postprocess")
        return {name: tensors[name] for name in outputs} if outputs else tensors

    def close(self) -> None:
        """Close the inner model and forget the hooks."""
        self._model.close()
        self._before = self._after = None


def _hook(module: object, name: str, where: str) -> Hook | None:
    hook: Hook | None = getattr(module, name, None)
    if hook is None:
        return None
    if not callable(hook):
        raise LoadFailed(f"{where}: {name} must be a function")
    if inspect.iscoroutinefunction(hook) or inspect.isasyncgenfunction(hook) or inspect.isgeneratorfunction(hook):
        raise LoadFailed(
            f"{where}: {name} must be a plain function that returns its result, neither async nor yielding"
        )
    return hook


def _taken(after: Hook, inner: Signature, where: str) -> tuple[str, ...]:
    """The model's outputs that ``postprocess`` asks for, by the names of its arguments."""
    names = [name for name in inspect.signature(after).parameters if name != "parameters"]
    known = inner.output_names
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"has an argument {unknown[0]!r}" if unknown else "takes nothing"
        raise LoadFailed(f"{where} {what}; name its arguments after the model's outputs: {', '.join(known)}")
    return tuple(names)
