"""What V2 tells of the server and its models: metadata, configuration, the repository's index.

Shapes: Open Inference Protocol V2, and Triton's "Model Configuration" and "Model Repository" extensions. A member that
has no value is left out: clients crash on null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferd import __version__
from inferd.core.lifecycle import VersionState
from inferd.core.tensors import TensorSpec
from inferd.serving.servable import Servable
from inferd.serving.table import Table, VersionStatus

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "logging",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
    "trace",
)
_STATES = {
    VersionState.PENDING: "LOADING",
    VersionState.LOADING: "LOADING",
    VersionState.WARMING: "LOADING",
    VersionState.READY: "READY",
    VersionState.DRAINING: "UNLOADING",
    VersionState.UNLOADING: "UNLOADING",
}
"""As the index calls them; every other state is UNAVAILABLE."""
_TYPES = {"BYTES": "TYPE_STRING"}


def server_metadata(*, shared_memory: bool) -> dict[str, Any]:
    """``GET /v2``."""
    extensions = [*EXTENSIONS, "system_shared_memory"] if shared_memory else [*EXTENSIONS]
    return {"name": "inferd", "version": __version__, "extensions": extensions}


def model_metadata(servable: Servable, table: Table) -> dict[str, Any]:
    """``GET /v2/models/{name}``; ``versions`` are those that are ready."""
    versions = table.models[servable.name]
    return {
        "name": servable.name,
        "versions": [str(version) for version, status in sorted(versions.items()) if status.servable is not None],
        "platform": _platform(servable),
        "inputs": [_tensor(spec) for spec in servable.signature.inputs],
        "outputs": [_tensor(spec) for spec in servable.signature.outputs],
    }


def model_config(servable: Servable) -> dict[str, Any]:
    """``GET /v2/models/{name}/config``. As in Triton, ``dims`` leave out the rows of a model that takes batches, and
    a ``max_batch_size`` of 0 says that it takes none."""
    info: Mapping[str, Any] = servable.info
    batching = info["batching"]
    config: dict[str, Any] = {
        "name": servable.name,
        "platform": _platform(servable),
        "backend": info["runtime"],
        "max_batch_size": batching["max_batch_size"] if servable.batchable else 0,
        "input": [_config_tensor(spec, servable.batchable) for spec in servable.signature.inputs],
        "output": [_config_tensor(spec, servable.batchable) for spec in servable.signature.outputs],
        "instance_group": [
            {
                "name": servable.name,
                "kind": "KIND_GPU" if servable.metadata.device.startswith("cuda") else "KIND_CPU",
                "count": info["execution"]["instances"],
            }
        ],
    }
    if servable.streaming:
        config["model_transaction_policy"] = {"decoupled": True}
    if servable.batchable and batching["enabled"]:
        config["dynamic_batching"] = {"max_queue_delay_microseconds": int(batching["max_wait_ms"] * 1000)}
    return config


def index_entry(status: VersionStatus) -> dict[str, str]:
    """One version in the answer to ``POST /v2/repository/index``."""
    entry = {
        "name": status.model,
        "version": str(status.version),
        "state": "READY" if status.dormant else _STATES.get(status.state, "UNAVAILABLE"),
    }
    return {**entry, "reason": status.reason} if status.reason else entry


def _platform(servable: Servable) -> str:
    return servable.metadata.platform or str(servable.info["runtime"])


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _config_tensor(spec: TensorSpec, batchable: bool) -> dict[str, Any]:
    entry = {
        "name": spec.name,
        "data_type": _TYPES.get(spec.datatype, f"TYPE_{spec.datatype}"),
        "dims": list(spec.shape[1:] if batchable else spec.shape),
    }
    return {**entry, "optional": True} if spec.optional else entry
