"""What TorchServe's management API tells of models: one entry a version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from inferd.serving.table import VersionStatus

_FIRST_WORKER = 9000


def model_list(names: Iterable[str], limit: int, start: int) -> dict[str, Any]:
    """One page of ``GET /models``; the token of the next one is where it starts."""
    ordered = sorted(names)
    page = [{"modelName": name, "modelUrl": name} for name in ordered[start : start + limit]]
    more = {"nextPageToken": str(start + limit)} if start + limit < len(ordered) else {}
    return {"models": page, **more}


def version_text(version: int) -> str:
    """A version as TorchServe usually writes it."""
    return f"{version}.0"


def describe_version(status: VersionStatus) -> dict[str, Any]:
    """A version in ``GET /models/{name}``; one that does not serve has no workers."""
    entry: dict[str, Any] = {
        "modelName": status.model,
        "modelVersion": version_text(status.version),
        "modelUrl": status.model,
    }
    servable = status.servable
    if servable is None:
        reason = {"reason": status.reason} if status.reason else {}
        return {**entry, "minWorkers": 0, "maxWorkers": 0, "workers": [], "state": status.state.value, **reason}
    info: Mapping[str, Any] = servable.info
    count = info["execution"]["instances"]
    is_gpu = servable.metadata.device.startswith("cuda")
    return {
        **entry,
        "engine": info["runtime"],
        "runtime": "python",
        "minWorkers": count,
        "maxWorkers": count,
        "batchSize": info["batching"]["max_batch_size"] if servable.batchable else 1,
        "maxBatchDelay": int(info["batching"]["max_wait_ms"]),
        "workers": [{"id": str(_FIRST_WORKER + each), "status": "READY", "gpu": is_gpu} for each in range(count)],
        "state": status.state.value,
    }
