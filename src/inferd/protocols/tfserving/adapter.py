"""TF Serving over REST as data: its hot routes, its cold routes, what it prepares for a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

from fastapi import FastAPI

from inferd.abc import HotRoute, Target
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.endpoint import Binding, Dialect, HotEndpoint
from inferd.protocols.shared.error_member import CONTENT_TYPE, phrase
from inferd.protocols.tfserving import routes
from inferd.protocols.tfserving.classify import ClassifyCodec, ExamplesCodec, RegressCodec
from inferd.protocols.tfserving.predict import PredictCodec
from inferd.serving.servable import Servable

DIALECT = Dialect(routes.PROTOCOL, CONTENT_TYPE, phrase)
_BINDINGS = {"predict": routes.PROTOCOL, "classify": "tfserving:classify", "regress": "tfserving:regress"}
_PATHS = ("/v1/models/{name}", "/v1/models/{name}/versions/{version}", "/v1/models/{name}/labels/{version}")


class TfServingAdapter:
    """``/v1/models/{name}[/versions/{version}|/labels/{label}]:predict|classify|regress`` and what surrounds it."""

    api_version = 1
    name = routes.PROTOCOL
    dialects: ClassVar[Mapping[str, Dialect]] = {"/v1/models": DIALECT}

    def __init__(self, context: ProtocolContext) -> None:
        self._context = context

    def hot_routes(self) -> Sequence[HotRoute]:
        """Templates answered by the hot front."""
        return tuple(
            HotRoute(f"{path}:{verb}", partial(self._make, binding))
            for verb, binding in _BINDINGS.items()
            for path in _PATHS
        )

    def bind(self, servable: Servable) -> Binding:
        """Make the codec of ``:predict``; those of the other two are bound here as well."""
        limit = self._context.max_body_bytes
        examples = ExamplesCodec(servable, max_body_bytes=limit)
        servable.bound[_BINDINGS["classify"]] = Binding(servable, ClassifyCodec(examples))
        servable.bound[_BINDINGS["regress"]] = Binding(servable, RegressCodec(examples))
        return Binding(servable, PredictCodec(servable, max_body_bytes=limit))

    def mount(self, app: FastAPI) -> None:
        """Add the cold routes."""
        routes.mount(app, self._context)

    def _make(self, binding: str, target: Target) -> HotEndpoint:
        return HotEndpoint(self._context, target, DIALECT, binding)


ADAPTER = TfServingAdapter
