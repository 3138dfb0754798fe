"""The native protocol as data: its hot routes, its cold routes, what it prepares for a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from fastapi import FastAPI

from inferd.abc import HotRoute, Target
from inferd.protocols.native import routes
from inferd.protocols.native.endpoints import DIALECT, PROTOCOL, bind
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.endpoint import Binding, Dialect, HotEndpoint
from inferd.serving.servable import Servable


class NativeAdapter:
    """``/predict`` and ``/models/{name}[/versions/{version}]/predict``."""

    api_version = 1
    name = PROTOCOL
    dialects: ClassVar[Mapping[str, Dialect]] = {}

    def __init__(self, context: ProtocolContext) -> None:
        self._context = context

    def hot_routes(self) -> Sequence[HotRoute]:
        """Templates answered by the hot front."""
        return tuple(
            HotRoute(template, self._make)
            for template in ("/predict", "/models/{name}/predict", "/models/{name}/versions/{version}/predict")
        )

    def bind(self, servable: Servable) -> Binding:
        """Compile the codec of a version."""
        return bind(servable)

    def mount(self, app: FastAPI) -> None:
        """Add the cold routes."""
        routes.mount(app, self._context)

    def _make(self, target: Target) -> HotEndpoint:
        return HotEndpoint(self._context, target, DIALECT)


ADAPTER = NativeAdapter
