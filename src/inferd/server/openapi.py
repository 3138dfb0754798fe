"""Describes the native routes as OpenAPI 3.1, typed for each model from its signature.

Source of the format: OpenAPI Specification 3.1.1. Each example is a request that its model accepts as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inferd.core.config import NanPolicy
from inferd.core.tensors import Signature
from inferd.protocols.native.example import example_request
from inferd.server.tensor_schema import Schema, request_schema, response_schema
from inferd.serving.table import Table

_NPY, _NPZ = "application/x-npy", "application/x-npz"
_BINARY = {"type": "string", "format": "binary"}
_PROBLEMS = {
    "400": "Not well-formed: broken JSON, duplicate keys, an unknown host.",
    "401": "An API key is needed.",
    "403": "The key does not have the scope.",
    "404": "No such model or version.",
    "406": "None of the accepted content types can be given.",
    "413": "The body is over the limit.",
    "415": "The content type is not read here.",
    "422": "Well-formed, but it does not fit the model; the body says where and how to correct it.",
    "500": "The model failed; the log has the details under the request id.",
    "503": "The model is not ready, or its queue is full; `Retry-After` says when to come back.",
    "504": "The deadline or a time-out ran out.",
}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457, Problem Details.",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "instance": {"type": "string"},
        "request_id": {"type": "string"},
        "tensor": {"type": "string"},
        "path": {"type": "string", "description": "Where in the body."},
        "got": {},
        "expected": {},
        "hint": {"type": "string"},
        "example": {"description": "A request that works."},
    },
}
_TIMEOUT = {
    "name": "Inferd-Timeout-Ms",
    "in": "header",
    "required": False,
    "description": "Answer within this many milliseconds, or with 504.",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What the document needs to know of one ready version. ``is_default`` marks the model that ``/predict`` asks."""

    name: str
    version: int
    signature: Signature
    batchable: bool
    select_outputs: tuple[str, ...] = ()
    nan: NanPolicy = "error"
    is_default: bool = False

    @property
    def component(self) -> str:
        """Prefix of this version's schemas among the components."""
        return f"{self.name}.{self.version}"


def describe_table(table: Table) -> list[ModelDescription]:
    """The ready versions of ``table``."""
    return [
        ModelDescription(
            servable.name,
            servable.version,
            servable.signature,
            servable.batchable,
            servable.default_outputs,
            servable.config.nan,
            servable.name == table.default_model,
        )
        for status in table.statuses
        if (servable := status.servable) is not None
    ]


def build_openapi(app_title: str, version: str, entries: Sequence[ModelDescription]) -> dict[str, Any]:
    """The whole document of the native routes. A path without a version stands for the highest one in ``entries``."""
    newest = {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.version)}
    default = next((entry for entry in newest.values() if entry.is_default), None)
    paths: dict[str, Any] = {"/predict": {"post": _default_predict(default, list(newest))}}
    for name, entry in sorted(newest.items()):
        paths |= _model_paths(f"/models/{name}", entry, "")
    for entry in entries:
        paths |= _model_paths(f"/models/{entry.name}/versions/{entry.version}", entry, f"_{entry.version}")
    return {
        "openapi": "3.1.0",
        "info": {"title": app_title, "version": version},
        "paths": paths | _fixed_paths(),
        "components": {
            "schemas": {"Problem": _PROBLEM} | _schemas(entries),
            "responses": {status: _problem(text) for status, text in _PROBLEMS.items()},
            "parameters": {"Timeout": _TIMEOUT},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``extra`` laid over it: objects are merged member by member, anything else of ``extra`` wins, and
    what ``extra`` has comes first: the models before the server's other routes."""
    merged: dict[str, Any] = {}
    for name, value in extra.items():
        known = base.get(name)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        # One operation or schema is described by one side only; halves of two would describe neither.
        merged[name] = merge(known, value) if both and not _is_whole(value) else value  # type: ignore[arg-type]
    return merged | {name: value for name, value in base.items() if name not in merged}


def _is_whole(value: Mapping[str, Any]) -> bool:
    return "responses" in value and "operationId" in value


def _schemas(entries: Sequence[ModelDescription]) -> dict[str, Schema]:
    schemas = {}
    for entry in entries:
        schemas[f"{entry.component}.Request"] = request_schema(
            entry.signature, batchable=entry.batchable, nan=entry.nan
        )
        schemas[f"{entry.component}.Response"] = response_schema(
            entry.signature, entry.select_outputs, batchable=entry.batchable, nan=entry.nan
        )
    return schemas


def _model_paths(prefix: str, entry: ModelDescription, suffix: str) -> dict[str, Any]:
    predict = _predict(entry, f"predict_{entry.name}{suffix}")
    info = _get(f"info_{entry.name}{suffix}", f"What {entry.name} takes, gives and runs on", entry.name)
    return {f"{prefix}/predict": {"post": predict}, f"{prefix}/info": {"get": info}}


def _default_predict(default: ModelDescription | None, names: list[str]) -> dict[str, Any]:
    if default is not None:
        return _predict(default, "predict") | {"tags": ["inference"]}
    text = (
        f"This server has no default model; post to /models/NAME/predict. Models: {', '.join(sorted(names)) or 'none'}."
    )
    return {
        "operationId": "predict",
        "summary": "Predict with the default model",
        "description": text,
        "tags": ["inference"],
        "responses": _problems("400", "401", "403", "503"),
    }


def _predict(entry: ModelDescription, operation_id: str) -> dict[str, Any]:
    example = example_request(entry.signature, batchable=entry.batchable)
    body: dict[str, Any] = {
        "application/json": {"schema": _ref("schemas", f"{entry.component}.Request"), "example": example}
    }
    answer: dict[str, Any] = {"application/json": {"schema": _ref("schemas", f"{entry.component}.Response")}}
    wanted = entry.select_outputs or entry.signature.output_names
    headers = {
        name: {"schema": {"type": "string"}} for name in ("Inferd-Model", "Inferd-Model-Version", "X-Request-Id")
    }
    return {
        "operationId": operation_id,
        "summary": f"Predict with {entry.name}",
        "tags": [entry.name],
        "parameters": [_ref("parameters", "Timeout")],
        "requestBody": {"required": True, "content": body | _binary(len(entry.signature.inputs))},
        "responses": {
            "200": {"description": "The predictions.", "headers": headers, "content": answer | _binary(len(wanted))},
            **_problems(*_PROBLEMS),
        },
    }


def _binary(tensors: int) -> dict[str, Any]:
    """NPZ carries any number of tensors, NPY exactly one."""
    kinds = (_NPY, _NPZ) if tensors == 1 else (_NPZ,)
    return {kind: {"schema": _BINARY} for kind in kinds}


def _fixed_paths() -> dict[str, Any]:
    return {
        "/health": {"get": _health()},
        "/ready": {"get": _ready()},
        "/models": {"get": _get("models", "All models, their versions and states", "models")},
        "/model/info": {"get": _get("model_info", "What the default model takes, gives and runs on", "models")},
        "/metrics": {"get": _metrics()},
    }


def _health() -> dict[str, Any]:
    return _get("health", "Whether the process lives; never asks the models", "probes") | {
        "responses": {"200": _json("It lives.")}
    }


def _ready() -> dict[str, Any]:
    model = {"name": "model", "in": "query", "required": False, "schema": {"type": "string"}}
    operation = _get("ready", "Whether every model (or `model`) is ready", "probes")
    operation["parameters"] = [model | {"description": "Ask for this model only."}]
    operation["responses"] = {
        "200": _json("Ready; names what has failed, if anything."),
        "503": _json("Not ready; names each blocker."),
        **_problems("404"),
    }
    return operation


def _metrics() -> dict[str, Any]:
    operation = _get("metrics", "Counters and histograms for Prometheus", "metrics")
    content = {kind: {"schema": {"type": "string"}} for kind in ("text/plain", "application/openmetrics-text")}
    operation["responses"] = {"200": {"description": "The metrics.", "content": content}, **_problems("401", "403")}
    return operation


def _get(operation_id: str, summary: str, tag: str) -> dict[str, Any]:
    responses = {"200": _json("Answered."), **_problems("401", "403", "404", "503")}
    return {"operationId": operation_id, "summary": summary, "tags": [tag], "responses": responses}


def _json(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": {"type": "object"}}}}


def _problem(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/problem+json": {"schema": _ref("schemas", "Problem")}}}


def _problems(*statuses: str) -> dict[str, Any]:
    return {status: _ref("responses", status) for status in statuses}


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}
