"""The control routes of captures. All are in the guard's admin scope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from inferd.abc import Exchange
from inferd.experiments.events import hash_unit
from inferd.experiments.unit import unit_reader
from inferd.repository.control import ModelControl
from inferd.server.capture_file import write_capture
from inferd.server.captures import Captures
from inferd.server.json_body import fit, read_json
from inferd.serving.capture import CaptureSettings

_CAPTURE = "/admin/models/{name}/capture"
_Names = Annotated[list[str], Field(max_length=1000)]


class CaptureRequest(BaseModel):
    """What to capture. ``redact`` names tensors to keep as zeros, ``leave_out`` those not to keep. ``unit`` is whom
    experiments keep together, as their definitions say it; it is kept as a hash with ``salt`` (the model's name when
    left out), or plain."""

    model_config = ConfigDict(extra="forbid")

    sample: float = Field(1.0, gt=0, le=1)
    max_requests: int = Field(1000, ge=1, le=1_000_000)
    max_mb: float = Field(64.0, gt=0, le=65_536)
    for_s: float = Field(3600.0, gt=0, le=7 * 86_400)
    redact: _Names = Field(default_factory=list)
    leave_out: _Names = Field(default_factory=list)
    parameters: bool = True
    unit: str = Field("", pattern=r"^(((header|cookie|parameter):[!-~]+)|api-key|)$", max_length=200)
    salt: str = Field("", max_length=200)
    plain_unit: bool = False

    def settings(self) -> CaptureSettings:
        """What bounds the ring and hides from it."""
        return CaptureSettings(
            self.sample,
            self.max_requests,
            int(self.max_mb * (1 << 20)),
            tuple(self.redact),
            tuple(self.leave_out),
            self.parameters,
        )


def mount_captures(app: FastAPI, captures: Captures, models: ModelControl) -> None:
    """Add ``/admin/models/{name}/capture``."""

    @app.put(
        _CAPTURE,
        tags=["admin"],
        summary="Capture a sample of the requests to a model, in memory",
        status_code=201,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": CaptureRequest.model_json_schema()}},
            }
        },
    )
    async def start(name: str, request: Request) -> JSONResponse:
        wanted = fit(CaptureRequest, await read_json(request))
        models.describe(name)
        unit_of = _unit_of(wanted, wanted.salt or name)
        found = captures.start(name, wanted.settings(), wanted.model_dump(), for_s=wanted.for_s, unit_of=unit_of)
        return JSONResponse(found.describe(), status_code=201)

    @app.get(_CAPTURE, tags=["admin"], summary="How the capture of a model stands")
    async def describe(name: str) -> JSONResponse:
        return JSONResponse(captures.get(name).describe())

    @app.get(
        f"{_CAPTURE}/requests.npz",
        tags=["admin"],
        summary="What was captured so far, as an NPZ archive",
        response_class=StreamingResponse,
    )
    async def download(name: str) -> StreamingResponse:
        found = captures.get(name)
        # A plain generator: Starlette takes each of its pieces in a thread.
        pieces = write_capture(found.describe(), found.capture.snapshot())
        names = {"content-disposition": f'attachment; filename="{name}-capture.npz"'}
        return StreamingResponse(pieces, media_type="application/x-npz", headers=names)

    @app.delete(_CAPTURE, tags=["admin"], summary="Stop the capture of a model, and forget what it holds")
    async def stop(name: str) -> JSONResponse:
        return JSONResponse(captures.stop(name).describe())


def _unit_of(wanted: CaptureRequest, salt: str) -> Callable[[Exchange], str] | None:
    """What reads the unit of a request as it is to be kept; a request that names none has none."""
    if not wanted.unit:
        return None
    read = unit_reader(wanted.unit)
    if wanted.plain_unit:
        return read

    def hashed(exchange: Exchange) -> str:
        unit = read(exchange)
        return hash_unit(salt, unit) if unit else ""

    return hashed
