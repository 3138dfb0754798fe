"""TorchServe's inference API as data: its hot routes, its cold routes, what it prepares for a version.

Reference: TorchServe, "Inference API". Versions are written ``2`` or, as TorchServe's usually are, ``2.0``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import ClassVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from inferd.abc import HotRoute, Target
from inferd.core.errors import Unsupported
from inferd.protocols.shared.cold import answer_by
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.endpoint import Binding, Dialect, HotEndpoint
from inferd.protocols.shared.error_member import CONTENT_TYPE
from inferd.protocols.shared.target import target_of
from inferd.protocols.torchserve.codec import TorchServeCodec
from inferd.protocols.torchserve.problem import phrase
from inferd.serving.servable import Servable

PROTOCOL = "torchserve"
DIALECT = Dialect(PROTOCOL, CONTENT_TYPE, phrase)
_TAGS: list[str | Enum] = ["torchserve"]
_MODEL, _VERSION = "/predictions/{name}", "/predictions/{name}/{version}"


class TorchServeAdapter:
    """``/predictions/{name}[/{version}]``, ``/ping``, ``/explanations`` and ``/api-description``."""

    api_version = 1
    name = PROTOCOL
    dialects: ClassVar[Mapping[str, Dialect]] = {"/": DIALECT}
    for_platform = False
    control_paths = ""

    def __init__(self, context: ProtocolContext) -> None:
        self._context = context

    def hot_routes(self) -> Sequence[HotRoute]:
        """Templates answered by the hot front."""
        return (HotRoute(_MODEL, self._make), HotRoute(_VERSION, self._make))

    def bind(self, servable: Servable) -> Binding:
        """Make the codec of a version."""
        return Binding(servable, TorchServeCodec(servable, max_body_bytes=self._context.max_body_bytes))

    def mount(self, app: FastAPI) -> None:
        """Add the cold routes."""
        context = self._context

        @app.get("/ping", tags=_TAGS, summary="Health: 200 once models are ready")
        async def ping() -> JSONResponse:
            ready = not context.blockers(None)
            return JSONResponse({"status": "Healthy" if ready else "Unhealthy"}, status_code=200 if ready else 503)

        # POST to a model that is there is answered by the hot front.
        @app.post(_MODEL, tags=_TAGS, summary="Predict with a model: a file, a form or JSON")
        @app.put(_MODEL, include_in_schema=False)
        async def predict(name: str, request: Request) -> Response:
            return await answer_by(self._make(Target(name)), request)

        @app.post(_VERSION, tags=_TAGS, summary="Predict with a version: a file, a form or JSON")
        @app.put(_VERSION, include_in_schema=False)
        async def predict_version(name: str, version: str, request: Request) -> Response:
            return await answer_by(self._make(version_target(name, version)), request)

        @app.post("/explanations/{name}", tags=_TAGS, summary="Explanations, which no model here offers")
        async def explain(name: str) -> None:
            context.engine.route(Target(name)).release()
            raise Unsupported(f"the model {name!r} offers no explanations")

        mount_description(app)

        @app.get("/api-description", tags=_TAGS, summary="This API as OpenAPI")
        async def describe() -> JSONResponse:
            return JSONResponse(app.openapi())

    def _make(self, target: Target) -> HotEndpoint:
        return HotEndpoint(self._context, target, DIALECT)


def version_target(name: str, version: str) -> Target:
    """The target of a version as TorchServe writes it."""
    return target_of(name, version.removesuffix(".0"))


def mount_description(app: FastAPI) -> None:
    """Add ``OPTIONS /``, TorchServe's way to ask for the description of an API."""

    @app.options("/", tags=_TAGS, summary="This API as OpenAPI")
    async def describe_by_options() -> JSONResponse:
        return JSONResponse(app.openapi())


ADAPTER = TorchServeAdapter
