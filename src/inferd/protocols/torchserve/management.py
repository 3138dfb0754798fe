"""TorchServe's management API as data: its cold routes. It has no hot ones.

Reference: TorchServe, "Management API". All of it needs an admin's key, where there are keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from inferd.abc import HotRoute
from inferd.core.errors import InvalidRequest
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.endpoint import Dialect
from inferd.protocols.torchserve.describe import describe_version, model_list, version_text
from inferd.protocols.torchserve.inference import DIALECT, mount_description
from inferd.protocols.torchserve.options import Options, read_options
from inferd.protocols.torchserve.registry import Registry
from inferd.serving.servable import Servable

_TAGS: list[str | Enum] = ["torchserve-management"]
_MODEL, _VERSION = "/models/{name}", "/models/{name}/{version}"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_MAX_WORKERS = 256
_MAX_PAGE = 10_000


class TorchServeManagementAdapter:
    """``/models``: list, register, describe, scale, set the default version, unregister."""

    api_version = 1
    name = "torchserve-management"
    dialects: ClassVar[Mapping[str, Dialect]] = {"/": DIALECT}
    for_platform = False
    control_paths = r"/models(/.*)?"

    def __init__(self, context: ProtocolContext) -> None:
        self._registry = Registry(context)

    def hot_routes(self) -> Sequence[HotRoute]:
        """None."""
        return ()

    def bind(self, servable: Servable) -> None:
        """Nothing needs to be prepared."""

    def mount(self, app: FastAPI) -> None:
        """Add the cold routes."""
        mount_description(app)
        _mount_reading(app, self._registry)
        _mount_registering(app, self._registry)
        _mount_scaling(app, self._registry)


def _mount_reading(app: FastAPI, registry: Registry) -> None:
    @app.get("/models", tags=_TAGS, summary="Registered models, a page at a time")
    async def list_models(request: Request) -> JSONResponse:
        options = Options(dict(request.query_params))
        limit = options.integer("limit", 100, least=1, most=_MAX_PAGE)
        start = options.integer("next_page_token", 0, least=0, most=10**8)
        return JSONResponse(model_list(registry.names, limit, start))

    @app.get(_MODEL, tags=_TAGS, summary="The default version of a model")
    async def describe(name: str) -> JSONResponse:
        return JSONResponse([describe_version(registry.default(name))])

    @app.get(_VERSION, tags=_TAGS, summary="One version of a model, or all of them")
    async def describe_versions(name: str, version: str) -> JSONResponse:
        if version == "all":
            return JSONResponse([describe_version(each) for _, each in sorted(registry.versions(name).items())])
        return JSONResponse([describe_version(registry.version(name, version))])


def _mount_registering(app: FastAPI, registry: Registry) -> None:
    @app.post("/models", tags=_TAGS, summary="Register a model of the repository")
    async def register(request: Request) -> JSONResponse:
        options = await read_options(request)
        name = _name(options)
        workers = options.integer("initial_workers", 0, least=0, most=_MAX_WORKERS)
        waits = options.boolean("synchronous", False)
        await registry.register(name, workers, _who(request))
        if workers and not waits:
            return _processing()
        await registry.settled(name)
        version = version_text(registry.default(name).version)
        hint = "" if workers else ". Use scale workers API to add workers for the model."
        return _status(f'Model "{name}" Version: {version} registered with {workers} initial workers{hint}')

    @app.delete(_MODEL, tags=_TAGS, summary="Unregister the default version of a model")
    async def unregister(name: str, request: Request) -> JSONResponse:
        await registry.unregister(registry.default(name), _who(request))
        return _status(f'Model "{name}" unregistered')

    @app.delete(_VERSION, tags=_TAGS, summary="Unregister a version")
    async def unregister_version(name: str, version: str, request: Request) -> JSONResponse:
        await registry.unregister(registry.version(name, version), _who(request))
        return _status(f'Model "{name}" unregistered')

    @app.put(f"{_VERSION}/set-default", tags=_TAGS, summary="Make a version the default")
    async def set_default(name: str, version: str, request: Request) -> JSONResponse:
        status = registry.version(name, version)
        await registry.set_default(status, _who(request))
        text = version_text(status.version)
        return _status(f'Default version successfully updated for model "{name}" to "{text}"')


def _mount_scaling(app: FastAPI, registry: Registry) -> None:
    @app.put(_MODEL, tags=_TAGS, summary="Set the number of workers of a model")
    async def scale(name: str, request: Request) -> JSONResponse:
        registry.versions(name)
        return await _scale(name, None, request)

    @app.put(_VERSION, tags=_TAGS, summary="Set the number of workers, and serve a version")
    async def scale_version(name: str, version: str, request: Request) -> JSONResponse:
        return await _scale(name, registry.known_version(name, version).version, request)

    async def _scale(name: str, version: int | None, request: Request) -> JSONResponse:
        options = await read_options(request)
        workers = options.integer("min_worker", 1, least=0, most=_MAX_WORKERS)
        options.integer("max_worker", workers, least=workers, most=_MAX_WORKERS)
        waits = options.boolean("synchronous", False)
        await registry.scale(name, version, workers, _who(request))
        if not waits:
            return _processing()
        await registry.settled(name)
        of_version = "" if version is None else f", version: {version_text(version)}"
        return _status(f"Workers scaled to {workers} for model: {name}{of_version}")


def _name(options: Options) -> str:
    """The model of the repository that ``url`` means. Raises ``InvalidRequest`` for what lies elsewhere."""
    url = options.text("url")
    if not url:
        raise InvalidRequest("Parameter url is required: the name of a model in the repository")
    name = url.removesuffix(".mar")
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"url is {url[:100]!r}: models are registered by their name in the repository only")
    if options.text("model_name", name) != name:
        raise InvalidRequest(f"model_name must be {name!r}: a model keeps the name it has in the repository")
    return name


def _who(request: Request) -> str:
    who: Any = request.scope.get("state", {}).get("principal", "")
    return str(who)


def _processing() -> JSONResponse:
    return JSONResponse({"status": "Processing worker updates..."}, status_code=202)


def _status(text: str) -> JSONResponse:
    return JSONResponse({"status": text})


ADAPTER = TorchServeManagementAdapter
