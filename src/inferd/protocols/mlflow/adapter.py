"""MLflow's scoring protocol as data: its routes, and what it prepares for a version.

Contract: MLflow, "Deploy MLflow Model as a Local Inference Server"; details by the scoring server's source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import ClassVar

from fastapi import FastAPI
from fastapi.responses import Response

from inferd.abc import HotRoute, Target
from inferd.protocols.mlflow.codec import MLflowCodec
from inferd.protocols.mlflow.problem import phrase
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.endpoint import Binding, Dialect, HotEndpoint
from inferd.serving.servable import Servable

DIALECT = Dialect("mlflow", b"application/json", phrase)
SPOKEN = "3.0.0"
"""The version of MLflow whose scoring protocol this is; 2.0 gave it its form."""
_TAGS: list[str | Enum] = ["mlflow"]


class MLflowAdapter:
    """``/invocations`` for the default model, ``/ping``, ``/health`` and ``/version``."""

    api_version = 1
    name = DIALECT.protocol
    for_platform = False
    control_paths = ""
    dialects: ClassVar[Mapping[str, Dialect]] = dict.fromkeys(("/invocations", "/ping", "/health", "/version"), DIALECT)

    def __init__(self, context: ProtocolContext) -> None:
        self._context = context

    def hot_routes(self) -> Sequence[HotRoute]:
        """Templates answered by the hot front."""
        return (HotRoute("/invocations", self._make),)

    def bind(self, servable: Servable) -> Binding:
        """Make the codec of a version."""
        return Binding(servable, MLflowCodec(servable, max_body_bytes=self._context.max_body_bytes))

    def mount(self, app: FastAPI) -> None:
        """Add the probes, and the scoring route for the document."""
        context = self._context

        def ping() -> Response:
            status = 503 if context.blockers(None) else 200
            return Response("\n", status_code=status, media_type="application/json")

        app.get("/ping", tags=_TAGS, summary="Health: 200 once models are ready")(ping)
        app.get("/health", tags=_TAGS, summary="The same")(ping)

        @app.get("/version", tags=_TAGS, summary="The version of MLflow that is spoken here")
        async def version() -> Response:
            return Response(SPOKEN, media_type="application/json")

        # The hot front answers it.
        @app.post("/invocations", tags=_TAGS, summary="Predict: data frames, rows, tensors or CSV")
        async def invocations() -> None:
            raise context.engine.table.explain(Target())

    def _make(self, target: Target) -> HotEndpoint:
        return HotEndpoint(self._context, target, DIALECT)


ADAPTER = MLflowAdapter
