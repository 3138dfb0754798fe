"""``POST /admin/experiments/{id}/promote``: give a variant's version to everyone, and end the experiment."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from inferd.core.errors import Conflict, InvalidRequest, ModelNotReady
from inferd.experiments.control import ExperimentControl, GiveToEveryone
from inferd.experiments.definition import Experiment, Variant
from inferd.experiments.judge import Judge
from inferd.experiments.promotion import Promotion, why_not
from inferd.experiments.registry import ExperimentRegistry
from inferd.experiments.target import find_ticket
from inferd.repository.control import ModelControl
from inferd.server.admin import who
from inferd.server.json_body import fit, read_json
from inferd.serving.engine import Engine


class PromotionRequest(BaseModel):
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
    judge: Judge,
    threads: Executor,
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
                "content": {"application/json": {"schema": PromotionRequest.model_json_schema()}},
            }
        },
    )
    async def promote(experiment_id: str, request: Request) -> JSONResponse:
        wanted = fit(PromotionRequest, await read_json(request))
        entry = registry.get(experiment_id)
        experiment = entry.experiment
        variant = _variant(experiment, wanted.variant)
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(threads, judge.report, experiment, entry.since_ms)
        doubt = why_not(
            found,
            variant.name,
            is_control=variant is experiment.control,
            must_be_better=experiment.mode != "ramp",
        )
        if doubt and not wanted.force:
            raise Conflict(f"{variant.name!r} is not promoted: {doubt}", hint="send force: true to do so all the same")
        promotion = Promotion(variant.name, _version(variant, engine), wanted.label)
        await control.promote(experiment_id, promotion, who(request), f"{promotion}{' (forced)' if doubt else ''}")
        answer: dict[str, Any] = {
            "experiment": experiment_id,
            "variant": variant.name,
            "version": promotion.version,
            "label": wanted.label,
            "forced": bool(doubt),
        }
        return JSONResponse({**answer, "against": doubt} if doubt else answer)


def giver(models: ModelControl) -> GiveToEveryone:
    """Gives a version to everyone by moving the label, or by serving it alone."""

    async def give(model: str, promotion: Promotion, who: str) -> None:
        if promotion.label:
            await models.set_label(model, promotion.label, promotion.version, who)
        else:
            await models.set_policy(model, str(promotion.version), who)

    return give


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
