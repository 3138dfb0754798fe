"""The native protocol's cold routes: which models there are, and what is known of each."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from inferd.abc import Target
from inferd.core.tensors import TensorSpec
from inferd.protocols.native.endpoints import PROTOCOL
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.target import target_of
from inferd.serving.servable import Servable
from inferd.serving.table import VersionStatus


def mount(app: FastAPI, context: ProtocolContext) -> None:
    """Add ``/models``, ``/model/info`` and their kin, and the answer to predictions nobody can give."""
    engine = context.engine

    @app.get("/models", tags=["models"], summary="Every model and version, with its state")
    async def list_models() -> JSONResponse:
        table = engine.table
        models = [
            {"name": name, "versions": [_brief(status) for _, status in sorted(versions.items())]}
            for name, versions in sorted(table.models.items())
        ]
        return JSONResponse({"models": models, "default_model": table.default_model or None})

    @app.get("/model/info", tags=["models"], summary="Metadata of the default model")
    async def default_info() -> JSONResponse:
        return _info(Target())

    # Described per model by the typed document, so not here.
    @app.get("/models/{name}/info", include_in_schema=False)
    async def model_info(name: str) -> JSONResponse:
        return _info(Target(name))

    @app.get("/models/{name}/versions/{version}/info", include_in_schema=False)
    async def version_info(name: str, version: str) -> JSONResponse:
        return _info(target_of(name, version))

    def _info(target: Target) -> JSONResponse:
        ticket = engine.route(target)
        try:
            servable = ticket.servable
            return JSONResponse(describe(servable, engine.table.models[servable.name][servable.version]))
        finally:
            ticket.release()

    # The hot front answers these paths for every model there is; what arrives here names one that is not.
    @app.post("/predict", include_in_schema=False)
    async def predict_nothing() -> None:
        _refuse(Target())

    @app.post("/models/{name}/predict", include_in_schema=False)
    async def predict_unknown(name: str) -> None:
        _refuse(Target(name))

    @app.post("/models/{name}/versions/{version}/predict", include_in_schema=False)
    async def predict_unknown_version(name: str, version: str) -> None:
        _refuse(target_of(name, version))

    def _refuse(target: Target) -> None:
        error = engine.table.explain(target)
        context.metrics.count_unrouted(PROTOCOL, error.code.value.lower())
        raise error


def describe(servable: Servable, status: VersionStatus) -> dict[str, Any]:
    """Everything ``/model/info`` says of a ready version."""
    info = dict(servable.info)
    batcher = servable.batcher
    return {
        "name": servable.name,
        "version": servable.version,
        "state": status.state.value,
        "signature": {
            "inputs": [_spec(spec) for spec in servable.signature.inputs],
            "outputs": [_spec(spec) for spec in servable.signature.outputs],
        },
        **info,
        "execution": {"mode": batcher.mode, **info["execution"]},
        "statistics": servable.statistics(),
    }


def _spec(spec: TensorSpec) -> dict[str, Any]:
    entry = {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
    return {**entry, "optional": True} if spec.optional else entry


def _brief(status: VersionStatus) -> dict[str, Any]:
    entry = {"version": status.version, "state": status.state.value}
    return {**entry, "reason": status.reason} if status.reason else entry
