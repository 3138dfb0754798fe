"""The Open Inference Protocol over REST as data: its hot routes, its cold routes, what it prepares for a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from fastapi import FastAPI

from inferd.abc import Endpoint, HotRoute, Target
from inferd.protocols.oip import routes
from inferd.protocols.oip.codec import OipCodec
from inferd.protocols.oip.plan import planner_of
from inferd.protocols.oip.shared_memory import OwnedEndpoint
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.endpoint import Binding, Dialect, HotEndpoint
from inferd.protocols.shared.error_member import CONTENT_TYPE, phrase
from inferd.serving.servable import Servable

DIALECT = Dialect(routes.PROTOCOL, CONTENT_TYPE, phrase)


class OipAdapter:
    """``/v2/models/{name}[/versions/{version}]/infer`` and what surrounds it."""

    api_version = 1
    name = routes.PROTOCOL
    dialects: ClassVar[Mapping[str, Dialect]] = {"/v2": DIALECT}

    def __init__(self, context: ProtocolContext) -> None:
        self._context = context

    def hot_routes(self) -> Sequence[HotRoute]:
        """Templates answered by the hot front."""
        return tuple(
            HotRoute(template, self._make)
            for template in ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer")
        )

    def bind(self, servable: Servable) -> Binding:
        """Make the codec of a version."""
        regions = self._context.regions
        planner = planner_of(servable, shared_memory=regions is not None)
        codec = OipCodec(planner, nan=servable.config.nan, max_body_bytes=self._context.max_body_bytes, regions=regions)
        return Binding(servable, codec)

    def mount(self, app: FastAPI) -> None:
        """Add the cold routes."""
        routes.mount(app, self._context)

    def _make(self, target: Target) -> Endpoint:
        endpoint = HotEndpoint(self._context, target, DIALECT)
        return OwnedEndpoint(endpoint) if self._context.regions is not None else endpoint


ADAPTER = OipAdapter
