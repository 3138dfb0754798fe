"""JSON Schema (2020-12) of tensors, requests and answers on the native routes, from a model's signature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from inferd.core.config import NanPolicy
from inferd.core.tensors import Signature, TensorSpec, describe

Schema = dict[str, Any]


def tensor_schema(spec: TensorSpec, shape: Sequence[int], nan: NanPolicy) -> Schema:
    """Nested arrays of ``spec``'s datatype: one level for each dimension of ``shape``, exact where it is fixed."""
    schema = _scalar(spec, nan)
    for size in reversed(shape):
        schema = {"type": "array", "items": schema}
        if size != -1:
            schema |= {"minItems": size, "maxItems": size}
    return schema | {"description": describe(spec)}


def request_schema(signature: Signature, *, batchable: bool, nan: NanPolicy) -> Schema:
    """A ``/predict`` body: row form or column form."""
    inputs = signature.inputs
    rows = {spec.name: tensor_schema(spec, _row_shape(spec, batchable), nan) for spec in inputs}
    columns = {spec.name: tensor_schema(spec, spec.shape, nan) for spec in inputs}
    required = [spec.name for spec in inputs if not spec.optional]
    instances: Schema = {
        "type": "array",
        "items": _named_or_bare(rows, required),
        "description": "One item for each row.",
    }
    if not batchable:
        instances |= {"minItems": 1, "maxItems": 1, "description": "One item: the whole input; no batches."}
    common = {"outputs": _wanted(signature), "parameters": {"type": "object", "description": "Handed to the model."}}
    return {
        "oneOf": [
            _body("Row form", "instances", instances, common),
            _body("Column form", "inputs", _named_or_bare(columns, required), common),
        ]
    }


def response_schema(signature: Signature, wanted: Sequence[str], *, batchable: bool, nan: NanPolicy) -> Schema:
    """The answer in row or column form, when the request names no ``outputs`` of its own."""
    specs = [spec for spec in signature.outputs if spec.name in wanted or not wanted]
    rows = {spec.name: tensor_schema(spec, _row_shape(spec, batchable), nan) for spec in specs}
    columns = {spec.name: tensor_schema(spec, spec.shape, nan) for spec in specs}
    predictions: Schema = {"type": "array", "items": _bare_if_one(rows)}
    return {
        "anyOf": [
            {
                "title": "Row form",
                "type": "object",
                "required": ["predictions"],
                "properties": {"predictions": predictions},
            },
            {
                "title": "Column form",
                "type": "object",
                "required": ["outputs"],
                "properties": {"outputs": _bare_if_one(columns)},
            },
        ]
    }


def _row_shape(spec: TensorSpec, batchable: bool) -> tuple[int, ...]:
    return spec.shape[1:] if batchable else spec.shape


def _scalar(spec: TensorSpec, nan: NanPolicy) -> Schema:
    if spec.datatype == "BYTES":
        encoded = {"type": "object", "required": ["b64"], "properties": {"b64": {"type": "string"}}}
        return {"anyOf": [{"type": "string"}, encoded | {"additionalProperties": False}]}
    if spec.datatype == "BOOL":
        return {"type": "boolean"}
    if spec.dtype.kind in "iu":
        limits = np.iinfo(spec.dtype)
        return {"type": "integer", "minimum": limits.min, "maximum": limits.max}
    if nan == "null":
        return {"type": ["number", "null"]}
    if nan == "string":
        return {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
    return {"type": "number"}


def _named(properties: dict[str, Schema], required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _named_or_bare(properties: dict[str, Schema], required: list[str]) -> Schema:
    named = _named(properties, required)
    return {"anyOf": [*properties.values(), named]} if len(properties) == 1 else named


def _bare_if_one(values: dict[str, Schema]) -> Schema:
    return next(iter(values.values())) if len(values) == 1 else _named(values, list(values))


def _wanted(signature: Signature) -> Schema:
    return {
        "type": "array",
        "items": {"enum": list(signature.output_names)},
        "minItems": 1,
        "uniqueItems": True,
        "description": "Outputs to answer with; one comes bare, several by name.",
    }


def _body(title: str, member: str, schema: Schema, common: dict[str, Schema]) -> Schema:
    return {"title": title, **_named({member: schema, **common}, [member])}
