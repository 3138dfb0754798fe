"""The routes by which SageMaker loads, lists and unloads the models of one endpoint.

Contract: Amazon SageMaker AI, "Custom containers contract for multi-model endpoints".
"""

from __future__ import annotations

import os
import re
from enum import Enum
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from inferd.core.errors import InvalidRequest, ModelNotFound, Unsupported
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.json_exact import read_exact
from inferd.protocols.shared.json_tensors import kind_of
from inferd.repository.control import ModelControl

_TAGS: list[str | Enum] = ["sagemaker"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PAGE = 100
_MAX_DIGITS = 9


def mount_models(app: FastAPI, context: ProtocolContext) -> None:
    """Add ``/models``. It answers with the models that were loaded here, not with those of a repository."""

    @app.get("/models", tags=_TAGS, summary="Models that were loaded, a page at a time")
    async def list_models(next_page_token: str = "0") -> JSONResponse:
        if not next_page_token.isascii() or not next_page_token.isdecimal() or len(next_page_token) > _MAX_DIGITS:
            raise InvalidRequest(f"next_page_token is {next_page_token[:40]!r}; give one that an answer had")
        added = sorted(_control(context).added.items())
        start = int(next_page_token)
        page = [_entry(name, path) for name, path in added[start : start + _PAGE]]
        more = {"nextPageToken": str(start + _PAGE)} if start + _PAGE < len(added) else {}
        return JSONResponse({"models": page, **more})

    @app.get("/models/{name}", tags=_TAGS, summary="A model that was loaded")
    async def get_model(name: str) -> JSONResponse:
        return JSONResponse(_entry(name, _path_of(_control(context), name)))

    @app.post("/models", tags=_TAGS, summary="Load a model: 409 when it is there, 507 without memory for it")
    async def load(request: Request) -> JSONResponse:
        control = _control(context)
        name, path = _read_load(read_exact(await request.body(), non_finite=False))
        await control.add(name, path, _who(request))
        await control.settled(name)
        if error := control.error(name):
            await control.remove(name, _who(request))
            raise error
        return JSONResponse(_entry(name, path))

    @app.delete("/models/{name}", tags=_TAGS, summary="Unload a model")
    async def unload(name: str, request: Request) -> JSONResponse:
        control = _control(context)
        path = _path_of(control, name)
        await control.remove(name, _who(request))
        await control.settled(name)
        return JSONResponse(_entry(name, path))


def _read_load(tree: Any) -> tuple[str, str]:
    """Name and path of the model to load. Raises ``InvalidRequest``, also for a path outside SageMaker's folder."""
    if type(tree) is not dict:
        raise InvalidRequest(f"the body is {kind_of(tree)} where an object with model_name and url is expected")
    name, url = tree.get("model_name"), tree.get("url")
    if type(name) is not str or not _NAME.fullmatch(name):
        raise InvalidRequest("model_name must be 1 to 128 letters, digits, '.', '_' and '-'", path="model_name")
    if type(url) is not str or "\0" in url:
        raise InvalidRequest("url must be the path of the model", path="url")
    folder = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"), "models").resolve()
    path = Path(url).resolve()
    if folder not in path.parents:
        raise InvalidRequest(f"url must lie in {folder}, where SageMaker puts models", path="url", got=url[:100])
    return name, str(path)


def _path_of(control: ModelControl, name: str) -> str:
    if name not in control.added:
        raise ModelNotFound(f"no model named {name[:128]!r} is loaded")
    return control.added[name]


def _control(context: ProtocolContext) -> ModelControl:
    """Raises ``Unsupported`` unless the endpoint has many models."""
    if context.control is None:
        raise Unsupported("this endpoint has one model; SAGEMAKER_MULTI_MODEL=true or --model-control makes it many")
    return context.control()


def _entry(name: str, path: str) -> dict[str, str]:
    return {"modelName": name, "modelUrl": path}


def _who(request: Request) -> str:
    who: Any = request.scope.get("state", {}).get("principal", "")
    return str(who)
