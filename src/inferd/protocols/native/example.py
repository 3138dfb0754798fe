"""Make a valid ``/predict`` body for a signature, for the documentation, the start-up curl and error bodies."""

from __future__ import annotations

from typing import Any

from inferd.core.tensors import Signature, example_inputs
from inferd.protocols.shared.json_tensors import to_json


def example_request(signature: Signature, *, batchable: bool, rows: int = 1) -> dict[str, Any]:
    """A ``/predict`` body in row form that the model accepts as it is.

    One input: ``instances`` holds bare values; several: objects by input name. Optional inputs are left out. A model
    that is not batchable takes exactly one instance, its whole input.
    """
    inputs = {name: to_json(array) for name, array in example_inputs(signature, rows if batchable else 1).items()}
    if not batchable:
        inputs = {name: [tree] for name, tree in inputs.items()}
        rows = 1
    if len(signature.inputs) == 1 and inputs:
        return {"instances": next(iter(inputs.values()))}
    return {"instances": [{name: tree[row] for name, tree in inputs.items()} for row in range(rows)]}
