"""The cold routes of TF Serving and KServe V1: status, metadata, the list of models, refusals with a reason."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from inferd.core.errors import RouteNotFound, Unsupported
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.target import target_of
from inferd.protocols.tfserving.describe import find_statuses, model_metadata, model_status

PROTOCOL = "tfserving"
VERBS = ("predict", "classify", "regress")
_MODEL = "/v1/models/{name}"
_VERSION = "/v1/models/{name}/versions/{version}"
_LABEL = "/v1/models/{name}/labels/{version}"


def mount(app: FastAPI, context: ProtocolContext) -> None:
    """Add everything under ``/v1/models`` but inference, and KServe's probe of liveness."""
    engine = context.engine

    @app.get("/", tags=["tfserving"], summary="Liveness (KServe V1)")
    async def live() -> JSONResponse:
        return JSONResponse({"status": "alive"})

    @app.get("/v1/models", tags=["tfserving"], summary="The models there are (KServe V1)")
    async def models() -> JSONResponse:
        return JSONResponse({"models": sorted(engine.table.models)})

    @app.get(_MODEL, tags=["tfserving"], summary="States of a model's versions, and whether it is ready (KServe V1)")
    @app.get(_VERSION, tags=["tfserving"], summary="State of a version")
    @app.get(_LABEL, tags=["tfserving"], summary="State of the version that a label names")
    async def status(name: str, version: str | None = None) -> JSONResponse:
        return JSONResponse(model_status(name, find_statuses(engine.table, target_of(name, version))))

    @app.get(f"{_MODEL}/metadata", tags=["tfserving"], summary="Signatures of a model")
    @app.get(f"{_VERSION}/metadata", tags=["tfserving"], summary="Signatures of a version")
    @app.get(f"{_LABEL}/metadata", tags=["tfserving"], summary="Signatures of the version that a label names")
    async def metadata(name: str, version: str | None = None) -> JSONResponse:
        ticket = engine.route(target_of(name, version))
        ticket.release()
        return JSONResponse(model_metadata(ticket.servable))

    # The hot front answers these paths for every model there is; what arrives here names one that is not.
    @app.post("/v1/models/{name}:{verb}", include_in_schema=False)
    @app.post(f"{_VERSION}:{{verb}}", include_in_schema=False)
    @app.post(f"{_LABEL}:{{verb}}", include_in_schema=False)
    async def infer_unknown(name: str, verb: str, version: str | None = None) -> None:
        if verb == "explain":
            raise Unsupported("no model here explains its predictions")
        if verb not in VERBS:
            raise RouteNotFound(f"models have :predict, :classify and :regress, not :{verb[:40]}")
        error = engine.table.explain(target_of(name, version))
        context.metrics.count_unrouted(PROTOCOL, error.code.value.lower())
        raise error
