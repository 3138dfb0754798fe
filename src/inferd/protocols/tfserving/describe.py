"""What TF Serving tells of a model: the states of its versions, and its signatures. Sizes and versions are text.

Shapes: TF Serving, "RESTful API", Model status and Model Metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inferd.abc import Target
from inferd.core.lifecycle import VersionState
from inferd.core.tensors import Signature, TensorSpec
from inferd.protocols.tfserving.signatures import DEFAULT
from inferd.serving.servable import Servable
from inferd.serving.table import Table, VersionStatus

STATES = {
    VersionState.PENDING: "START",
    VersionState.LOADING: "LOADING",
    VersionState.WARMING: "LOADING",
    VersionState.READY: "AVAILABLE",
    VersionState.DRAINING: "UNLOADING",
    VersionState.UNLOADING: "UNLOADING",
    VersionState.UNLOADED: "END",
    VersionState.FAILED: "END",
}
DTYPES = {
    "FP16": "DT_HALF",
    "BF16": "DT_BFLOAT16",
    "FP32": "DT_FLOAT",
    "FP64": "DT_DOUBLE",
    "INT8": "DT_INT8",
    "INT16": "DT_INT16",
    "INT32": "DT_INT32",
    "INT64": "DT_INT64",
    "UINT8": "DT_UINT8",
    "UINT16": "DT_UINT16",
    "UINT32": "DT_UINT32",
    "UINT64": "DT_UINT64",
    "BOOL": "DT_BOOL",
    "BYTES": "DT_STRING",
}
PREDICT = "tensorflow/serving/predict"


def find_statuses(table: Table, target: Target) -> list[VersionStatus]:
    """The versions that ``target`` may mean, ascending. Raises ``ModelNotFound`` and ``VersionNotFound``."""
    versions = table.models.get(target.name or "")
    if versions is None:
        raise table.explain(target)
    if target.version is None:
        return [status for _, status in sorted(versions.items())]
    labels = table.labels.get(target.name or "", {})
    number = labels.get(target.version) if isinstance(target.version, str) else target.version
    if number is None or number not in versions:
        raise table.explain(target)
    return [versions[number]]


def version_status(status: VersionStatus) -> dict[str, Any]:
    """One entry of ``model_version_status``."""
    failed = status.state is VersionState.FAILED
    return {
        "version": str(status.version),
        "state": "AVAILABLE" if status.dormant else STATES[status.state],
        "status": {"error_code": "UNKNOWN" if failed else "OK", "error_message": status.reason if failed else ""},
    }


def model_status(name: str, statuses: Sequence[VersionStatus]) -> dict[str, Any]:
    """The states of versions; ``name`` and ``ready`` are KServe's "V1 protocol"."""
    return {
        "model_version_status": [version_status(status) for status in statuses],
        "name": name,
        "ready": any(status.available for status in statuses),
    }


def model_metadata(servable: Servable) -> dict[str, Any]:
    """The answer to ``/metadata``."""
    return {
        "model_spec": {"name": servable.name, "signature_name": "", "version": str(servable.version)},
        "metadata": {"signature_def": {"signature_def": signature_defs(servable)}},
    }


def signature_defs(servable: Servable) -> dict[str, Any]:
    """Each signature as a ``SignatureDef``; the default one is also known as ``serving_default``."""
    return {name: _signature_def(signature) for name, signature in named_signatures(servable).items()}


def named_signatures(servable: Servable) -> dict[str, Signature]:
    """A model's signatures by the names that callers may use."""
    if len(servable.signatures) == 1:
        return {DEFAULT: servable.signature}
    return {DEFAULT: servable.signature, **servable.signatures}


def _signature_def(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": {spec.name: _tensor_info(spec) for spec in signature.inputs},
        "outputs": {spec.name: _tensor_info(spec) for spec in signature.outputs},
        "method_name": PREDICT,
        "defaults": {},
    }


def _tensor_info(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": f"{spec.name}:0",
        "dtype": DTYPES[spec.datatype],
        "tensor_shape": {
            "dim": [{"size": str(size), "name": ""} for size in spec.shape],
            "unknown_rank": False,
        },
    }
