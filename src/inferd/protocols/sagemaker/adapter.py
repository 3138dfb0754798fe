"""SageMaker's container contract as data: its hot routes, its cold routes, what it prepares for a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from fastapi import FastAPI

from inferd.abc import HotRoute, Target
from inferd.protocols.sagemaker import routes
from inferd.protocols.sagemaker.codec import SageMakerCodec
from inferd.protocols.sagemaker.models import mount_models
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.endpoint import Binding, Dialect, HotEndpoint
from inferd.protocols.shared.error_member import CONTENT_TYPE, phrase
from inferd.serving.servable import Servable

DIALECT = Dialect(routes.PROTOCOL, CONTENT_TYPE, phrase)


class SageMakerAdapter:
    """``/ping``, ``/invocations``, and ``/models`` for an endpoint of many models."""

    api_version = 1
    name = routes.PROTOCOL
    dialects: ClassVar[Mapping[str, Dialect]] = dict.fromkeys(("/ping", "/invocations", "/models"), DIALECT)
    for_platform = True
    control_paths = r"/models(/[^/]+)?"

    def __init__(self, context: ProtocolContext) -> None:
        self._context = context

    def hot_routes(self) -> Sequence[HotRoute]:
        """Templates answered by the hot front."""
        return tuple(HotRoute(template, self._make) for template in ("/invocations", "/models/{name}/invoke"))

    def bind(self, servable: Servable) -> Binding:
        """Make the codec of a version."""
        return Binding(servable, SageMakerCodec(servable, max_body_bytes=self._context.max_body_bytes))

    def mount(self, app: FastAPI) -> None:
        """Add the cold routes."""
        routes.mount(app, self._context)
        mount_models(app, self._context)

    def _make(self, target: Target) -> HotEndpoint:
        return HotEndpoint(self._context, target, DIALECT)


ADAPTER = SageMakerAdapter
