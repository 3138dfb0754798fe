"""OpenAI's embeddings route as data: its hot route, its cold ones, what it prepares for a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import ClassVar

from fastapi import FastAPI

from inferd.abc import Endpoint, Exchange, HotRoute, Target
from inferd.core.errors import InferdError, UnsupportedMediaType
from inferd.protocols.openai.codec import EmbeddingsCodec, read_model
from inferd.protocols.openai.problem import phrase
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.endpoint import Binding, Dialect, HotEndpoint
from inferd.protocols.shared.error_member import CONTENT_TYPE
from inferd.serving.servable import Servable

DIALECT = Dialect("openai", CONTENT_TYPE, phrase)
_EMBEDDINGS = "/v1/embeddings"
_TAGS: list[str | Enum] = ["openai"]


class OpenAiAdapter:
    """``/v1/embeddings`` for the models that embed text."""

    api_version = 1
    name = DIALECT.protocol
    dialects: ClassVar[Mapping[str, Dialect]] = {_EMBEDDINGS: DIALECT}

    def __init__(self, context: ProtocolContext) -> None:
        self._context = context

    def hot_routes(self) -> Sequence[HotRoute]:
        """Templates answered by the hot front."""
        return (HotRoute(_EMBEDDINGS, self._make),)

    def bind(self, servable: Servable) -> Binding:
        """Make the codec of a version."""
        return Binding(servable, EmbeddingsCodec(servable))

    def mount(self, app: FastAPI) -> None:
        """Describe the route, which the hot front answers."""

        @app.post(_EMBEDDINGS, tags=_TAGS, summary="Embed text with a model that does so")
        async def embed() -> None:
            raise self._context.engine.table.explain(Target())

    def _make(self, target: Target) -> Endpoint:
        return EmbeddingsEndpoint(self._context)


class EmbeddingsEndpoint:
    """The hot endpoint of the model that the body names."""

    def __init__(self, context: ProtocolContext) -> None:
        self._context = context
        self._nobody = HotEndpoint(context, Target(), DIALECT)

    def handle(self, exchange: Exchange) -> None:
        """Read the model's name, and leave the rest to its endpoint."""
        try:
            if b"content-encoding" in exchange.headers:
                raise UnsupportedMediaType("the body must not be compressed")
            name = read_model(exchange.body)
        except InferdError as error:
            self._context.metrics.count_unrouted(DIALECT.protocol, error.code.value.lower())
            self.refuse(exchange, error)
            return
        HotEndpoint(self._context, Target(name), DIALECT).handle(exchange)

    def refuse(self, exchange: Exchange, error: Exception) -> None:
        """See ``Endpoint``."""
        self._nobody.refuse(exchange, error)


ADAPTER = OpenAiAdapter
