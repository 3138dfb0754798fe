"""The FastAPI application: probes, metrics, documents, and every route that is not hot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from inferd import __version__
from inferd.abc import Target
from inferd.core.errors import InferdError, InvalidRequest, MethodNotAllowed, RouteNotFound
from inferd.protocols.shared.endpoint import Dialect
from inferd.repository.repository import ModelRepository
from inferd.server.docs_pages import mount_docs
from inferd.server.json_body import refusal
from inferd.server.listeners import Listener
from inferd.server.openapi import build_openapi, describe_table, merge
from inferd.server.state import ServerState
from inferd.serving.engine import Engine
from inferd.telemetry.logs import request_id_context
from inferd.telemetry.metrics import Metrics


def make_app(
    repository: ModelRepository,
    engine: Engine,
    metrics: Metrics,
    state: ServerState,
    mounts: Sequence[Callable[[FastAPI], None]],
    listener: Listener,
) -> FastAPI:
    """The cold side of one listener; ``mounts`` add the cold routes of its protocols and of others."""
    app = FastAPI(
        title="inferd",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    # A platform may ask for its own probe under a name of ours: then its is the one.
    for mount in mounts:
        mount(app)
    _mount_probes(app, repository, engine, metrics, state)
    _mount_openapi(app, engine, typed="native" in listener.door.protocols)
    mount_docs(app)
    _handle_errors(app, listener.front.dialect)
    return app


def _mount_probes(
    app: FastAPI, repository: ModelRepository, engine: Engine, metrics: Metrics, state: ServerState
) -> None:
    @app.get("/health", tags=["probes"], summary="Liveness: the process answers, whatever its models do")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/ready", tags=["probes"], summary="Readiness of the server, or of one model")
    async def ready(model: str | None = None) -> JSONResponse:
        if model is not None and model not in engine.table.models:
            raise engine.table.explain(Target(model))
        blockers = [*state.blockers(), *repository.blockers(model)]
        if blockers:
            return JSONResponse({"ready": False, "blockers": blockers}, status_code=503, headers={"retry-after": "1"})
        failed = repository.failed(model)
        return JSONResponse({"ready": True, "blockers": [], **({"failed": failed} if failed else {})})

    @app.get("/metrics", tags=["probes"], summary="Metrics for Prometheus", response_class=Response)
    async def render_metrics(request: Request) -> Response:
        metrics.settle()
        # Off the loop: a scrape of many models takes milliseconds.
        accept = request.headers.get("accept", "")
        content_type, body = await asyncio.to_thread(metrics.render, accept)
        return Response(body, headers={"content-type": content_type})


def _mount_openapi(app: FastAPI, engine: Engine, *, typed: bool) -> None:
    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        if not typed:
            return JSONResponse(app.openapi())
        native = build_openapi("inferd", __version__, describe_table(engine.table))
        return JSONResponse(merge(app.openapi(), native))


def _handle_errors(app: FastAPI, dialect_of: Callable[[bytes], Dialect]) -> None:
    def respond(request: Request, error: Exception, headers: Mapping[str, str] | None = None) -> Response:
        dialect = dialect_of(request.url.path.encode())
        status, body = dialect.phrase(error, request_id_context.get())
        all_headers = {"content-type": dialect.error_type.decode(), **(headers or {})}
        if isinstance(error, InferdError) and "retry_after_s" in error.details:
            all_headers["retry-after"] = str(error.details["retry_after_s"])
        return Response(body, status_code=status, headers=all_headers)

    @app.exception_handler(InferdError)
    async def inferd_error(request: Request, error: InferdError) -> Response:
        return respond(request, error)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return respond(
                request, RouteNotFound(f"there is no route {request.url.path}", hint="/docs lists the routes")
            )
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            refusal = MethodNotAllowed(f"{request.url.path} does not take {request.method}", expected=allowed)
            return respond(request, refusal, {"allow": allowed})
        return respond(request, InvalidRequest(str(error.detail)))

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> Response:
        errors = [{**each, "loc": each["loc"][1:]} for each in error.errors()]  # without "body" or "query"
        return respond(request, refusal(errors))

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> Response:
        return respond(request, error)
