"""The cold routes of SageMaker's container contract: the health check, and answers to invocations nobody can serve."""

from __future__ import annotations

from enum import Enum

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from inferd.abc import Target
from inferd.protocols.shared.context import ProtocolContext

PROTOCOL = "sagemaker"
_TAGS: list[str | Enum] = ["sagemaker"]


def mount(app: FastAPI, context: ProtocolContext) -> None:
    """Add ``/ping`` and its kin."""

    @app.get("/ping", tags=_TAGS, summary="Health: 200 once models are ready")
    async def ping() -> JSONResponse:
        ready = not context.blockers(None)
        return JSONResponse({"status": "Healthy" if ready else "Unhealthy"}, status_code=200 if ready else 503)

    # The hot front answers these; they stand here for the document, and for models that are not there.
    @app.post("/invocations", tags=_TAGS, summary="Predict with the default model: JSON, JSON Lines, CSV or NPY")
    async def invoke() -> None:
        _refuse(Target())

    @app.post("/models/{name}/invoke", tags=_TAGS, summary="Predict with a model that was loaded by name")
    async def invoke_model(name: str) -> None:
        _refuse(Target(name))

    def _refuse(target: Target) -> None:
        error = context.engine.table.explain(target)
        context.metrics.count_unrouted(PROTOCOL, error.code.value.lower())
        raise error
