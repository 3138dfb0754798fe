"""The routes of ``generate`` and ``generate_stream``, which answer for whoever still listens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

from inferd.abc import Exchange, Target
from inferd.core.errors import Cancelled, InferdError, InvalidRequest
from inferd.protocols.oip.generate import generate
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.error_member import phrase
from inferd.protocols.shared.target import target_of

logger = logging.getLogger("inferd.protocols")

_MODEL, _VERSION = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
_EVENT = b"data: %b\n\n"


def mount_generate(app: FastAPI, context: ProtocolContext) -> None:
    """Add both routes, with and without a version."""

    @app.post(f"{_MODEL}/generate", tags=["v2"], summary="Plain JSON to a model, and its one response")
    @app.post(f"{_VERSION}/generate", tags=["v2"], summary="Plain JSON to a version, and its one response")
    async def one(request: Request, name: str, version: str | None = None) -> Response:
        exchange = await _exchange(request)
        body = await _unless_left(request, _only(context, target_of(name, version), exchange))
        return Response(body, media_type="application/json")

    @app.post(f"{_MODEL}/generate_stream", tags=["v2"], summary="Plain JSON to a model, its responses as events")
    @app.post(f"{_VERSION}/generate_stream", tags=["v2"], summary="Plain JSON to a version, its responses as events")
    async def stream(request: Request, name: str, version: str | None = None) -> Response:
        exchange = await _exchange(request)
        responses = generate(context, target_of(name, version), exchange)
        # What goes wrong before the first response has a status of its own.
        first = await _unless_left(request, _next(responses))
        events = _events(first, responses, exchange.request_id)
        return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})


async def _exchange(request: Request) -> Exchange:
    exchange: Exchange = request.scope["state"]["exchange"]
    exchange.body = await request.body()
    return exchange


async def _only(context: ProtocolContext, target: Target, exchange: Exchange) -> bytes:
    async with aclosing(generate(context, target, exchange)) as responses:
        first = await anext(responses, None)
        if first is None or await anext(responses, None) is not None:
            raise InvalidRequest("generate answers what has one response; ask generate_stream for any number")
    return first


async def _next(responses: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(responses, None)


async def _events(first: bytes | None, responses: AsyncGenerator[bytes, None], request_id: str) -> AsyncIterator[bytes]:
    """Server-sent events; an error is the last of them."""
    async with aclosing(responses):
        if first is None:
            return
        yield _EVENT % first
        try:
            async for response in responses:
                yield _EVENT % response
        except Exception as error:
            if not isinstance(error, InferdError):
                logger.error("a defect while answering", exc_info=error, extra={"request_id": request_id})
            yield _EVENT % phrase(error, request_id)[1]


async def _unless_left(request: Request, work: Coroutine[Any, Any, Any]) -> Any:
    """The result of ``work``, which is given up when the caller leaves. Raises ``Cancelled`` then."""
    task = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Cancelled("the caller left before the answer")
        return task.result()
    finally:
        for each in (task, leaving):
            each.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
