"""The control routes of models. All are in the guard's admin scope."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from inferd.core.errors import VersionNotFound
from inferd.repository.control import ModelControl

_MODEL = "/admin/models/{name}"
_VERSION = "/admin/models/{name}/versions/{version}"
Action = Literal["load", "unload", "reload"]


class Policy(BaseModel):
    """``latest``, ``latest:N``, ``all`` or ``1,3``; empty for the configured one."""

    policy: str


class Label(BaseModel):
    """The version a label points at."""

    version: int


def mount_admin(app: FastAPI, control: ModelControl) -> None:
    """Add ``/admin/models…``."""
    _mount_reading(app, control)
    _mount_actions(app, control)
    _mount_choices(app, control)


def _mount_reading(app: FastAPI, control: ModelControl) -> None:
    @app.get("/admin/models", tags=["admin"], summary="Every model, its versions and their states")
    async def list_models() -> JSONResponse:
        return JSONResponse({"models": [control.describe(name) for name in control.names]})

    @app.get(_MODEL, tags=["admin"], summary="One model")
    async def describe(name: str) -> JSONResponse:
        return JSONResponse(control.describe(name))

    @app.get(f"{_MODEL}/history", tags=["admin"], summary="What happened, by whom, why; the latest first")
    async def history(name: str, limit: int = 100) -> JSONResponse:
        events = control.history(name, max(1, min(limit, 10_000)))
        return JSONResponse(
            {
                "history": [
                    {
                        "at_ms": each.at_ms,
                        "version": each.version,
                        "event": each.event,
                        "who": each.who,
                        "why": each.why,
                    }
                    for each in events
                ]
            }
        )


def _mount_actions(app: FastAPI, control: ModelControl) -> None:
    @app.post("/admin/rescan", tags=["admin"], summary="Look at the repository again")
    async def rescan() -> JSONResponse:
        await control.rescan()
        return JSONResponse({"models": [control.describe(name) for name in control.names]}, status_code=202)

    @app.post(f"{_MODEL}/{{action}}", tags=["admin"], summary="Load, unload or reload a model")
    async def act(request: Request, name: str, action: Action, wait: bool = True) -> JSONResponse:
        return await _act(control, request, action, name, None, wait)

    @app.post(f"{_VERSION}/{{action}}", tags=["admin"], summary="Load, unload or reload one version")
    async def act_on_version(
        request: Request, name: str, version: str, action: Action, wait: bool = True
    ) -> JSONResponse:
        return await _act(control, request, action, name, _number(version), wait)


async def _act(
    control: ModelControl, request: Request, action: Action, name: str, version: int | None, wait: bool
) -> JSONResponse:
    act = {"load": control.load, "unload": control.unload, "reload": control.reload}[action]
    await act(name, version, who(request))
    if wait:
        await control.settled(name)
    return JSONResponse(control.describe(name), status_code=200 if wait else 202)


def _mount_choices(app: FastAPI, control: ModelControl) -> None:
    @app.put(f"{_MODEL}/policy", tags=["admin"], summary="Choose which versions are served")
    async def set_policy(request: Request, name: str, policy: Policy, wait: bool = True) -> JSONResponse:
        await control.set_policy(name, policy.policy, who(request))
        return await _answer(control, name, wait)

    @app.put(f"{_MODEL}/labels/{{label}}", tags=["admin"], summary="Point a label at a ready version")
    async def set_label(request: Request, name: str, label: str, target: Label) -> JSONResponse:
        await control.set_label(name, label, target.version, who(request))
        return await _answer(control, name, wait=True)

    @app.delete(f"{_MODEL}/labels/{{label}}", tags=["admin"], summary="Take a label away")
    async def remove_label(request: Request, name: str, label: str) -> JSONResponse:
        await control.remove_label(name, label, who(request))
        return await _answer(control, name, wait=True)


async def _answer(control: ModelControl, name: str, wait: bool) -> JSONResponse:
    if wait:
        await control.settled(name)
    return JSONResponse(control.describe(name), status_code=200 if wait else 202)


def who(request: Request) -> str:
    """The id of the caller's key, "" without one."""
    principal: Any = request.scope.get("state", {}).get("principal", "")
    return str(principal)


def _number(version: str) -> int:
    if not version.isascii() or not version.isdigit() or len(version) > 18:
        raise VersionNotFound(f"no version {version[:40]!r}: versions are positive integers")
    return int(version)
