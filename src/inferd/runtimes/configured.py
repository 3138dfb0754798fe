"""What a model's configuration overrides of the things a runtime inferred from the artefact."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from inferd.core.config import ModelConfig
from inferd.core.errors import LoadFailed
from inferd.core.tensors import Signature, TensorSpec, describe

MODEL_TOML = "model.toml in the model's folder; a file alone has none: put both into a folder, and serve the folder"
"""For errors: where to write what a runtime has to be told."""


def configured_signature(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], config: ModelConfig
) -> dict[str, Signature]:
    """The model's signatures: a configured spec replaces the inferred one of its name, and configured outputs are
    the only ones served.

    Raises ``LoadFailed`` for a name the artefact does not have and for an output that does not exist.
    """
    _known("input", config.inputs, inputs)
    _known("output", config.outputs, outputs)
    given = {spec.name: spec for spec in config.inputs}
    signature = Signature(tuple(given.get(spec.name, spec) for spec in inputs), config.outputs or tuple(outputs))
    return {signature.name: signature}


def _known(kind: str, given: Sequence[TensorSpec], inferred: Sequence[TensorSpec]) -> None:
    names = [spec.name for spec in inferred]
    for spec in given:
        if spec.name not in names:
            raise LoadFailed(f"the configuration names an {kind} {spec.name!r}; the model has {', '.join(names)}")


def is_batchable(signature: Signature, config: ModelConfig) -> bool:
    """Whether the first dimension of every input and output is free; the configuration may say no, and may say yes
    only where that is possible. Raises ``LoadFailed`` where it is not."""
    fixed = [spec for spec in (*signature.inputs, *signature.outputs) if spec.shape[:1] != (-1,)]
    if config.batchable and fixed:
        raise LoadFailed(
            f"batchable = true, but {fixed[0].name!r} is {describe(fixed[0])}: its first dimension is fixed"
        )
    return not fixed if config.batchable is None else config.batchable


def intra_op_threads(config: ModelConfig) -> int:
    """Threads for one execution: as configured, else the cores this process may use shared among the instances."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return config.execution.intra_op_threads or max(1, available // config.instances.count)


def reason(error: Exception, artefact: Path) -> str:
    """The first line of a framework's error, without the server's path: fit to be shown to a caller."""
    lines = str(error).replace(str(artefact), artefact.name).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def only_cpu(framework: str, device: str) -> None:
    """Raise ``LoadFailed`` for a device that is not the CPU."""
    if device not in ("auto", "cpu"):
        raise LoadFailed(f"{framework} models are served on the CPU, not on {device!r}")
