"""``POST /admin/experiments/{id}/promote``: give a variant's version to everyone, and end the experiment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from inferd.core.errors import Conflict, InvalidRequest, ModelNotReady
from inferd.experiments.control import ExperimentControl
from inferd.experiments.definition import Experiment, Variant
from inferd.experiments.promotion import why_not
from inferd.experiments.registry import ExperimentRegistry
from inferd.experiments.report import Report
from inferd.experiments.target import find_ticket
from inferd.repository.control import ModelControl
from inferd.server.admin import who
from inferd.server.json_body import fit, read_json
from inferd.serving.engine import Engine


class Promotion(BaseModel):
    """Which variant, and how everyone gets it: by a ``label`` that is moved, or, without one, by serving just its
    version. ``force`` does so against the report."""

    model_config = ConfigDict(extra="forbid")

    variant: str = Field(min_length=1, max_length=128)
    label: str = Field("", max_length=128)
    force: bool = False


def mount_promotion(
    app: FastAPI,
    registry: ExperimentRegistry,
    control: ExperimentControl,
    make_report: Callable[[Experiment], Report],
    threads: Executor,
    *,
    models: ModelControl,
    engine: Engine,
) -> None:
    """Add the route."""

    @app.post(
        "/admin/experiments/{experiment_id}/promote",
        tags=["experiments"],
        summary="Give a variant's version to everyone, by a label or alone, and end the experiment",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": Promotion.model_json_schema()}},
            }
        },
    )
    async def promote(experiment_id: str, request: Request) -> JSONResponse:
        wanted = fit(Promotion, await read_json(request))
        experiment = registry.get(experiment_id).experiment
        variant = _variant(experiment, wanted.variant)
        found = await asyncio.get_running_loop().run_in_executor(threads, make_report, experiment)
        doubt = why_not(found, variant.name, is_control=variant is experiment.control)
        if doubt and not wanted.force:
            raise Conflict(f"{variant.name!r} is not promoted: {doubt}", hint="send force: true to do so all the same")
        version = _version(variant, engine)
        name = who(request)
        if wanted.label:
            await models.set_label(experiment.model, wanted.label, version, name)
        else:
            await models.set_policy(experiment.model, str(version), name)
        how = f"label {wanted.label}" if wanted.label else "everyone"
        forced = " (forced)" if doubt else ""
        await control.stop(experiment_id, name, f"{variant.name}, version {version}, promoted to {how}{forced}")
        answer: dict[str, Any] = {
            "experiment": experiment_id,
            "variant": variant.name,
            "version": version,
            "label": wanted.label,
            "forced": bool(doubt),
        }
        return JSONResponse({**answer, "against": doubt} if doubt else answer)


def _variant(experiment: Experiment, name: str) -> Variant:
    for variant in experiment.variants:
        if variant.name == name:
            return variant
    known = ", ".join(variant.name for variant in experiment.variants)
    raise InvalidRequest(f"{experiment.id!r} has no variant {name[:100]!r}; there are: {known}", path="variant")


def _version(variant: Variant, engine: Engine) -> int:
    """The version that the variant's callers get now. Raises ``ModelNotReady``."""
    ticket = find_ticket(variant.target, engine.table)
    if ticket is None:
        raise ModelNotReady(f"nothing that is ready answers to {variant.target}", retry_after_s=1)
    return ticket.servable.version
