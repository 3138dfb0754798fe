"""Vertex AI's container contract as data: its routes, which the platform names, and what it prepares for a version.

Contract: Vertex AI, "Custom container requirements for inference".
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from enum import Enum

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from inferd.abc import HotRoute, Target
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.endpoint import Binding, Dialect, HotEndpoint
from inferd.protocols.shared.error_member import CONTENT_TYPE, phrase
from inferd.protocols.vertex.codec import VertexCodec
from inferd.serving.servable import Servable

DIALECT = Dialect("vertex", CONTENT_TYPE, phrase)
_TAGS: list[str | Enum] = ["vertex"]


class VertexAdapter:
    """The routes that ``AIP_PREDICT_ROUTE`` and ``AIP_HEALTH_ROUTE`` name, else ``/predict`` and ``/health``."""

    api_version = 1
    name = DIALECT.protocol
    for_platform = True
    control_paths = ""

    def __init__(self, context: ProtocolContext) -> None:
        self._context = context
        self._predict = os.environ.get("AIP_PREDICT_ROUTE", "/predict")
        self._health = os.environ.get("AIP_HEALTH_ROUTE", "/health")
        self.dialects: Mapping[str, Dialect] = dict.fromkeys((self._predict, self._health), DIALECT)

    def hot_routes(self) -> Sequence[HotRoute]:
        """Templates answered by the hot front."""
        return (HotRoute(self._predict, self._make),)

    def bind(self, servable: Servable) -> Binding:
        """Make the codec of a version."""
        return Binding(servable, VertexCodec(servable, max_body_bytes=self._context.max_body_bytes))

    def mount(self, app: FastAPI) -> None:
        """Add the health check, and the prediction route for the document."""
        context = self._context

        @app.get(self._health, tags=_TAGS, summary="Health: 200 once models are ready")
        async def vertex_health() -> JSONResponse:
            ready = not context.blockers(None)
            return JSONResponse({"ready": ready}, status_code=200 if ready else 503)

        # The hot front answers it.
        @app.post(self._predict, tags=_TAGS, summary="Predict with the default model")
        async def vertex_predict() -> None:
            raise context.engine.table.explain(Target())

    def _make(self, target: Target) -> HotEndpoint:
        return HotEndpoint(self._context, target, DIALECT)


ADAPTER = VertexAdapter
