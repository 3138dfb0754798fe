"""From a model's outputs to classes with scores, and to regression values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inferd.core.errors import ExecutionFailed, InvalidRequest, NotFinite
from inferd.core.tensors import Signature, TensorSpec
from inferd.protocols.shared.json_write import output_of

CLASSES, SCORES, VALUES = "classes", "scores", "outputs"
"""What the classify and regress signatures of TensorFlow call their outputs."""
_FLOATS = ("FP16", "BF16", "FP32", "FP64")


@dataclass(frozen=True, slots=True)
class ClassifyPlan:
    """``scores`` names the output FP[rows, classes]. Their labels are the output ``classes`` (BYTES, same shape), or,
    where that is empty, ``labels``."""

    scores: str
    classes: str = ""
    labels: tuple[str, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that are needed."""
        return (self.scores, self.classes) if self.classes else (self.scores,)


def classify_plan(signature: Signature, labels: Sequence[object]) -> ClassifyPlan:
    """How rows of ``signature`` are classified: by its outputs ``scores`` and ``classes``, else by its only output of
    scores, whose labels are those of the model, or their positions. Raises ``InvalidRequest``."""
    outputs = {spec.name: spec for spec in signature.outputs}
    if SCORES in outputs:
        return ClassifyPlan(SCORES, CLASSES if CLASSES in outputs else "", tuple(map(str, labels)))
    found = [spec.name for spec in signature.outputs if spec.datatype in _FLOATS and len(spec.shape) == 2]
    if len(found) != 1:
        raise InvalidRequest(
            f"the model has {'several outputs' if found else 'no output'} of floats per row and class "
            f"({_names(signature)}), so it is not known what to classify by; use :predict"
        )
    return ClassifyPlan(found[0], labels=tuple(map(str, labels)))


def regress_output(signature: Signature) -> str:
    """The output that holds one number per row: ``outputs``, or the only one that can. Raises ``InvalidRequest``."""
    found = [spec.name for spec in signature.outputs if _is_one_number(spec)]
    if VALUES in found:
        return VALUES
    if len(found) != 1:
        raise InvalidRequest(
            f"the model has {'several outputs' if found else 'no output'} of one number per row "
            f"({_names(signature)}), so it is not known which is the value; use :predict"
        )
    return found[0]


def _is_one_number(spec: TensorSpec) -> bool:
    return spec.datatype not in ("BYTES", "BOOL") and spec.shape[1:] in ((), (1,))


def _names(signature: Signature) -> str:
    return ", ".join(f"{spec.name} {spec.datatype}{list(spec.shape)}" for spec in signature.outputs)


def classes_of(plan: ClassifyPlan, outputs: Mapping[str, np.ndarray]) -> tuple[list[list[str]], np.ndarray]:
    """The labels of each row, and their scores FP[rows, classes]. Raises ``ExecutionFailed``."""
    scores = output_of(outputs, plan.scores)
    if scores.ndim != 2 or scores.dtype.kind in "OSUT":
        raise ExecutionFailed(f"output {plan.scores!r} is {list(scores.shape)}, not one score per row and class")
    if plan.classes:
        return _labels(output_of(outputs, plan.classes), scores, plan.classes), scores
    width = scores.shape[1]
    labels = list(plan.labels) if len(plan.labels) == width else [str(index) for index in range(width)]
    return [labels] * len(scores), scores


def _labels(classes: np.ndarray, scores: np.ndarray, name: str) -> list[list[str]]:
    if classes.shape != scores.shape:
        raise ExecutionFailed(f"output {name!r} is {list(classes.shape)}, the scores are {list(scores.shape)}")
    return [
        [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in row]
        for row in classes.tolist()
    ]


def values_of(name: str, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """One number per row. Raises ``ExecutionFailed``."""
    values = output_of(outputs, name)
    if values.shape[1:] not in ((), (1,)):
        raise ExecutionFailed(f"output {name!r} is {list(values.shape)}, not one number per row")
    return values.reshape(-1)


def as_floats(array: np.ndarray, name: str, *, finite: bool) -> list[float]:
    """The values as JSON numbers with as few digits as their datatype needs. Raises ``NotFinite`` when they must
    be ``finite`` and are not."""
    if array.dtype.name in ("bfloat16", "float16"):
        array = array.astype(np.float32)
    if finite and not np.isfinite(array).all():
        raise NotFinite(name)
    if array.dtype != np.float32:
        return [float(value) for value in array.tolist()]
    return [float(str(value)) for value in array]


def write_json(results: object) -> bytes:
    """``{"results": ...}``, with what is not finite as bare NaN and Infinity."""
    return json.dumps({"results": results}, ensure_ascii=False, separators=(",", ":")).encode()
