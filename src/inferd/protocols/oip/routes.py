"""The cold routes of V2: health, metadata, configuration, statistics, the repository's index, and refusals with a
reason for what is not offered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from inferd.abc import Target
from inferd.core.errors import InvalidRequest, ModelNotReady, Unsupported
from inferd.protocols.oip import repository_api, settings, shared_memory
from inferd.protocols.oip.describe import index_entry, model_config, model_metadata, server_metadata
from inferd.protocols.oip.file_override import PREFIX
from inferd.protocols.oip.generate_routes import mount_generate
from inferd.protocols.oip.statistics import model_statistics
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.json_exact import read_exact
from inferd.protocols.shared.json_members import read_parameters
from inferd.protocols.shared.target import target_of
from inferd.serving.servable import Servable

PROTOCOL = "oip"
_MODEL = "/v2/models/{name}"
_MEMORY = "/v2/systemsharedmemory"
_VERSION = "/v2/models/{name}/versions/{version}"


def mount(app: FastAPI, context: ProtocolContext) -> None:
    """Add everything under ``/v2`` but inference."""
    _mount_health(app, context)
    _mount_models(app, context)
    _mount_statistics(app, context)
    _mount_repository(app, context)
    _mount_shared_memory(app, context)
    _mount_settings(app, context)
    mount_generate(app, context)
    _mount_refusals(app, context)


def _mount_health(app: FastAPI, context: ProtocolContext) -> None:
    # Clients of other servers read these bodies as JSON, so they are never empty.
    @app.get("/v2/health/live", tags=["v2"], summary="Liveness")
    async def live() -> JSONResponse:
        return JSONResponse({"live": True})

    @app.get("/v2/health/ready", tags=["v2"], summary="Readiness of the server")
    async def ready() -> JSONResponse:
        is_ready = not context.blockers(None)
        return JSONResponse({"ready": is_ready}, status_code=200 if is_ready else 503)

    @app.get(f"{_MODEL}/ready", tags=["v2"], summary="Readiness of a model")
    @app.get(f"{_VERSION}/ready", tags=["v2"], summary="Readiness of a version")
    async def model_ready(name: str, version: str | None = None) -> JSONResponse:
        target = target_of(name, version)
        ticket = context.engine.table.tickets.get(target)
        if ticket is None and not context.engine.table.may_answer(target):
            raise context.engine.table.explain(target)
        if ticket is not None and ticket.servable.batcher.wedged:
            raise ModelNotReady(f"every instance of {name!r} is busy beyond its compute timeout", retry_after_s=1)
        return JSONResponse({"name": name, "ready": True})


def _mount_models(app: FastAPI, context: ProtocolContext) -> None:
    @app.get("/v2", tags=["v2"], summary="Metadata of the server")
    async def metadata() -> JSONResponse:
        return JSONResponse(server_metadata(shared_memory=context.regions is not None))

    # Before the routes of a model: its last segment stands where a name goes.
    @app.get("/v2/models/stats", tags=["v2"], summary="Statistics of every model")
    async def all_statistics() -> JSONResponse:
        servables = [status.servable for status in context.engine.table.statuses if status.servable is not None]
        return JSONResponse({"model_stats": [model_statistics(servable) for servable in servables]})

    @app.get(_MODEL, tags=["v2"], summary="Metadata of a model")
    @app.get(_VERSION, tags=["v2"], summary="Metadata of a version")
    async def describe(name: str, version: str | None = None) -> JSONResponse:
        return JSONResponse(model_metadata(_find(context, name, version), context.engine.table))

    @app.get(f"{_MODEL}/config", tags=["v2"], summary="Configuration of a model")
    @app.get(f"{_VERSION}/config", tags=["v2"], summary="Configuration of a version")
    async def config(name: str, version: str | None = None) -> JSONResponse:
        return JSONResponse(model_config(_find(context, name, version)))


def _mount_statistics(app: FastAPI, context: ProtocolContext) -> None:
    @app.get(f"{_MODEL}/stats", tags=["v2"], summary="Statistics of all versions of a model")
    async def statistics(name: str) -> JSONResponse:
        versions = context.engine.table.models.get(name)
        if versions is None:
            raise context.engine.table.explain(Target(name))
        servables = [status.servable for _, status in sorted(versions.items()) if status.servable is not None]
        return JSONResponse({"model_stats": [model_statistics(servable) for servable in servables]})

    @app.get(f"{_VERSION}/stats", tags=["v2"], summary="Statistics of a version")
    async def version_statistics(name: str, version: str) -> JSONResponse:
        return JSONResponse({"model_stats": [model_statistics(_find(context, name, version))]})


def _mount_repository(app: FastAPI, context: ProtocolContext) -> None:
    @app.post("/v2/repository/index", tags=["v2"], summary="Every version there is, with its state")
    async def index(request: Request) -> JSONResponse:
        only_ready = _only_ready(await request.body())
        entries = [index_entry(status) for status in context.engine.table.statuses]
        return JSONResponse([entry for entry in entries if entry["state"] == "READY" or not only_ready])

    @app.post("/v2/repository/models/{name}/load", tags=["v2"], summary="Serve a model as its policy says")
    async def load(name: str, request: Request) -> JSONResponse:
        # Read elsewhere: a body that brings files along may be large.
        parameters = await asyncio.to_thread(_load_parameters, await request.body())
        await repository_api.load(context, name, parameters, _who(request))
        return JSONResponse({})

    @app.post("/v2/repository/models/{name}/unload", tags=["v2"], summary="Stop serving a model")
    async def unload(name: str, request: Request) -> JSONResponse:
        await repository_api.unload(context, name, _parameters(await request.body()), _who(request))
        return JSONResponse({})


def _mount_shared_memory(app: FastAPI, context: ProtocolContext) -> None:
    @app.get(f"{_MEMORY}/status", tags=["v2"], summary="The caller's regions of shared memory")
    @app.get(f"{_MEMORY}/region/{{name}}/status", tags=["v2"], summary="One of the caller's regions")
    async def status(request: Request, name: str = "") -> JSONResponse:
        regions = shared_memory.regions_of(context).status(_who(request), name)
        return JSONResponse([shared_memory.region_entry(region) for region in regions])

    @app.post(f"{_MEMORY}/region/{{name}}/register", tags=["v2"], summary="Register a region of shared memory")
    async def register(request: Request, name: str) -> JSONResponse:
        values = read_exact(await request.body(), non_finite=False)
        shared_memory.register(context, _who(request), name, values)
        return JSONResponse({})

    @app.post(f"{_MEMORY}/unregister", tags=["v2"], summary="Let go of all of the caller's regions")
    @app.post(f"{_MEMORY}/region/{{name}}/unregister", tags=["v2"], summary="Let go of one of the caller's regions")
    async def unregister(request: Request, name: str = "") -> JSONResponse:
        shared_memory.regions_of(context).unregister(_who(request), name)
        return JSONResponse({})


def _mount_settings(app: FastAPI, context: ProtocolContext) -> None:
    @app.get("/v2/logging", tags=["v2"], summary="Log settings")
    async def logs() -> JSONResponse:
        return JSONResponse(settings.log_settings())

    @app.post("/v2/logging", tags=["v2"], summary="Change log settings")
    async def change_logs(request: Request) -> JSONResponse:
        return JSONResponse(settings.change_log_settings(read_exact(await request.body(), non_finite=False)))

    @app.get("/v2/trace/setting", tags=["v2"], summary="Trace settings")
    @app.get(f"{_MODEL}/trace/setting", tags=["v2"], summary="Trace settings of a model")
    async def traces(name: str = "") -> JSONResponse:
        return JSONResponse(settings.trace_settings(context, name))

    @app.post("/v2/trace/setting", tags=["v2"], summary="Change trace settings")
    @app.post(f"{_MODEL}/trace/setting", tags=["v2"], summary="Change trace settings of a model")
    async def change_traces(request: Request, name: str = "") -> JSONResponse:
        values = read_exact(await request.body(), non_finite=False)
        return JSONResponse(settings.change_trace_settings(context, name, values))


def _mount_refusals(app: FastAPI, context: ProtocolContext) -> None:
    # The hot front answers these paths for every model there is; what arrives here names one that is not.
    @app.post(f"{_MODEL}/infer", include_in_schema=False)
    @app.post(f"{_VERSION}/infer", include_in_schema=False)
    async def infer_unknown(name: str, version: str | None = None) -> JSONResponse:
        error = context.engine.table.explain(target_of(name, version))
        context.metrics.count_unrouted(PROTOCOL, error.code.value.lower())
        raise error

    @app.post("/v2/cudasharedmemory/unregister", include_in_schema=False)
    async def unregister_no_cuda() -> JSONResponse:
        # Clients begin and end by unregistering all of both kinds: of this one there are none.
        return JSONResponse({})

    @app.api_route("/v2/cudasharedmemory/{rest:path}", methods=["GET", "POST"], include_in_schema=False)
    async def no_cuda(rest: str) -> JSONResponse:
        raise Unsupported(shared_memory.NO_CUDA)


def _find(context: ProtocolContext, name: str, version: str | None) -> Servable:
    """The ready version that is asked for. Raises what routing raises."""
    ticket = context.engine.route(target_of(name, version))
    ticket.release()
    return ticket.servable


def _who(request: Request) -> str:
    who: Any = request.scope.get("state", {}).get("principal", "")
    return str(who)


def _parameters(body: bytes) -> Mapping[str, Any]:
    """The parameters of an unload; an empty body has none. Raises ``InvalidRequest``."""
    return read_parameters(_parameter_object(body))


def _load_parameters(body: bytes) -> Mapping[str, Any]:
    """The same of a load; its files are left as they are."""
    given = _parameter_object(body)
    if type(given) is not dict:
        return read_parameters(given)
    files = {name: value for name, value in given.items() if name.startswith(PREFIX)}
    return {**read_parameters({name: value for name, value in given.items() if name not in files}), **files}


def _parameter_object(body: bytes) -> Any:
    options: Any = read_exact(body, non_finite=False) if body else {}
    if type(options) is not dict or set(options) - {"parameters"}:
        raise InvalidRequest('the body must be empty, or an object such as {"parameters": {}}')
    return options.get("parameters", {})


def _only_ready(body: bytes) -> bool:
    """The one option of an index request; an empty body has none. Raises ``InvalidRequest``."""
    options: Any = read_exact(body, non_finite=False) if body else {}
    if type(options) is not dict or type(options.get("ready", False)) is not bool:
        raise InvalidRequest('the body must be empty, or an object such as {"ready": true}')
    return bool(options.get("ready", False))
