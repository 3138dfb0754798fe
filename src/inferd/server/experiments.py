"""The control routes of experiments: list, describe, start, stop."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from inferd.experiments.registry import Entry, ExperimentRegistry

_ONE = "/admin/experiments/{experiment_id}"


def mount_experiments(app: FastAPI, registry: ExperimentRegistry) -> None:
    """Add ``/admin/experiments…``."""

    @app.get("/admin/experiments", tags=["experiments"], summary="Every experiment and where it stands")
    async def list_experiments() -> JSONResponse:
        return JSONResponse({"experiments": [_summary(entry) for entry in registry.entries]})

    @app.get(_ONE, tags=["experiments"], summary="One experiment, its variants and its counts")
    async def describe(experiment_id: str) -> JSONResponse:
        return JSONResponse(_details(registry.get(experiment_id)))

    @app.post(f"{_ONE}/stop", tags=["experiments"], summary="Kill switch: everyone gets the model's usual version")
    async def stop(experiment_id: str, request: Request) -> JSONResponse:
        return JSONResponse(_summary(registry.stop(experiment_id, f"stopped by {_who(request)}")))

    @app.post(f"{_ONE}/start", tags=["experiments"], summary="Run a stopped experiment again")
    async def start(experiment_id: str) -> JSONResponse:
        return JSONResponse(_summary(registry.start(experiment_id)))


def _who(request: Request) -> str:
    return request.scope.get("state", {}).get("principal") or "somebody without a key"


def _summary(entry: Entry) -> dict[str, Any]:
    summary = {
        "id": entry.experiment.id,
        "model": entry.experiment.model,
        "state": entry.state,
        "defined_in": entry.origin,
    }
    return {**summary, "reason": entry.reason} if entry.reason else summary


def _details(entry: Entry) -> dict[str, Any]:
    experiment, live = entry.experiment, entry.live
    return {
        **_summary(entry),
        "unit": experiment.unit,
        "coverage": experiment.coverage,
        "mode": experiment.mode,
        "variants": [
            {
                "name": variant.name,
                "target": variant.target,
                "share": share,
                "requests": live.assigned[variant.name],
                "fallbacks": live.fallbacks[variant.name],
            }
            for variant, share in zip(experiment.variants, experiment.shares, strict=True)
        ],
        "unassigned": dict(live.unassigned),
    }
