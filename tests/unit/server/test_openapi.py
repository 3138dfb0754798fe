from typing import Any

import numpy as np
import orjson
import pytest
from fastapi import FastAPI
from fastapi.openapi.models import OpenAPI

from inferd.core.errors import InferdError
from inferd.core.tensors import Signature, TensorSpec
from inferd.protocols.native.codec import NativeCodec
from inferd.server.openapi import ModelDescription, build_openapi, merge

IRIS = Signature(
    inputs=(TensorSpec("x", "FP32", (-1, 4)),),
    outputs=(TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 3))),
)
TEXT = Signature(inputs=(TensorSpec("text", "BYTES", (-1,)),), outputs=(TensorSpec("score", "FP64", (-1,)),))
PAIR = Signature(
    inputs=(
        TensorSpec("image", "UINT8", (-1, 2, 3)),
        TensorSpec("flag", "BOOL", (-1, 1)),
        TensorSpec("bias", "FP16", (-1,), optional=True),
    ),
    outputs=(TensorSpec("y", "FP32", (-1, -1)),),
)
WHOLE = Signature(inputs=(TensorSpec("x", "INT8", (2, -1)),), outputs=(TensorSpec("y", "INT8", (2,)),))
MODELS = [
    ModelDescription("iris", 1, IRIS, True, ("label",), is_default=True),
    ModelDescription("iris", 3, IRIS, True, is_default=True),
    ModelDescription("text", 1, TEXT, True, nan="string"),
    ModelDescription("pair.v2-final", 7, PAIR, True, nan="null"),
    ModelDescription("whole", 1, WHOLE, False),
]
by_name = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.component)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return build_openapi("inferd", "1.2.3", MODELS)


def accepts(schema: dict[str, Any], value: Any) -> bool:
    """Whether ``value`` is valid, by the keywords that the schemas here use."""
    if "anyOf" in schema:
        return any(accepts(part, value) for part in schema["anyOf"])
    if "oneOf" in schema:
        return sum(accepts(part, value) for part in schema["oneOf"]) == 1
    if "enum" in schema:
        return value in schema["enum"]
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return any(_accepts(kind, schema, value) for kind in kinds)


def _accepts(kind: str, schema: dict[str, Any], value: Any) -> bool:
    if kind == "array":
        fits = isinstance(value, list) and schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9)
        return fits and all(accepts(schema["items"], item) for item in value)
    if kind == "object":
        known = schema.get("properties")
        fits = isinstance(value, dict) and set(schema.get("required", ())) <= value.keys()
        return fits and (known is None or all(name in known and accepts(known[name], value[name]) for name in value))
    if kind == "integer":
        return type(value) is int and schema["minimum"] <= value <= schema["maximum"]
    types = {"number": (int, float), "string": (str,), "boolean": (bool,), "null": (type(None),)}[kind]
    return type(value) in types


def request_schema(document: dict[str, Any], model: ModelDescription) -> dict[str, Any]:
    return document["components"]["schemas"][f"{model.component}.Request"]


def response_schema(document: dict[str, Any], model: ModelDescription) -> dict[str, Any]:
    return document["components"]["schemas"][f"{model.component}.Response"]


def codec(model: ModelDescription) -> NativeCodec:
    return NativeCodec(model.signature, batchable=model.batchable, nan=model.nan, select_outputs=model.select_outputs)


def references(part: Any):
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for item in part:
            yield from references(item)


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def test_the_document_is_openapi_and_plain_json(document):
    assert OpenAPI.model_validate(document).openapi.startswith("3.1")
    assert orjson.loads(orjson.dumps(document)) == document


def test_every_reference_leads_somewhere(document):
    found = set(references(document))
    assert len(found) > 10
    for reference in found:
        part = document
        for step in reference.removeprefix("#/").split("/"):
            part = part[step]


def test_every_operation_has_an_id_of_its_own(document):
    ids = [operation["operationId"] for operation in operations(document)]
    assert len(ids) == len(set(ids))


def test_the_five_endpoints_and_every_model_and_version_are_described(document):
    assert {"/health", "/ready", "/predict", "/model/info", "/metrics", "/models"} <= document["paths"].keys()
    for model in MODELS:
        for prefix in (f"/models/{model.name}", f"/models/{model.name}/versions/{model.version}"):
            assert "post" in document["paths"][f"{prefix}/predict"]
            assert "get" in document["paths"][f"{prefix}/info"]


def test_a_path_without_a_version_describes_the_highest(document):
    for path in ("/predict", "/models/iris/predict"):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        assert content["application/json"]["schema"]["$ref"].endswith("/iris.3.Request")


@by_name
def test_the_example_is_decoded_as_it_is_and_fits_its_schema(document, model):
    path = f"/models/{model.name}/versions/{model.version}/predict"
    example = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
    request, _ = codec(model).decode(orjson.dumps(example), {})
    assert request.inputs.keys() == {spec.name for spec in model.signature.inputs if not spec.optional}
    assert accepts(request_schema(document, model), example)


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[1, 2, 3, 4], [5.5, 6, 7, 8]]},
        {"instances": [{"x": [1, 2, 3, 4]}]},
        {"inputs": {"x": [[1, 2, 3, 4]]}, "outputs": ["label"]},
        {"inputs": [[1, 2, 3, 4]], "parameters": {"a": 1}},
        {"instances": []},
    ],
)
def test_what_the_codec_reads_fits_the_schema(document, body):
    codec(MODELS[0]).decode(orjson.dumps(body), {})
    assert accepts(request_schema(document, MODELS[0]), body)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"instances": [[1, 2, 3]]},
        {"instances": [[1, 2, 3, True]]},
        {"instances": [[1, 2, 3, None]]},
        {"instances": [[1, 2, 3, "4"]]},
        {"instances": [{"y": [1, 2, 3, 4]}]},
        {"inputs": [1, 2, 3, 4]},
        {"inputs": {"x": [[1, 2, 3, 4]]}, "instances": [[1, 2, 3, 4]]},
        {"instances": [[1, 2, 3, 4]], "outputs": ["nothing"]},
        {"instances": [[1, 2, 3, 4]], "extra": 1},
    ],
)
def test_what_the_codec_refuses_does_not_fit_the_schema(document, body):
    with pytest.raises(InferdError):
        codec(MODELS[0]).decode(orjson.dumps(body), {})
    assert not accepts(request_schema(document, MODELS[0]), body)


def test_the_nan_policy_and_the_range_of_integers_show_in_the_schema(document):
    pair, whole = request_schema(document, MODELS[3]), request_schema(document, MODELS[4])
    row = {"image": [[0, 1, 2], [3, 4, 255]], "flag": [True]}
    assert accepts(pair, {"instances": [row | {"bias": None}]})
    assert not accepts(pair, {"instances": [row | {"image": [[0, 1, 2], [3, 4, 256]]}]})
    assert accepts(whole, {"instances": [[[-128], [127]]]})
    assert not accepts(whole, {"instances": [[[-129], [127]]]})
    assert not accepts(whole, {"instances": [[[1], [1]], [[1], [1]]]})


@by_name
@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_an_answer_fits_its_schema(document, model, form):
    example = document["paths"][f"/models/{model.name}/versions/{model.version}/predict"]["post"]["requestBody"]
    body = example["content"]["application/json"]["example"]
    request, reply = codec(model).decode(orjson.dumps(body), {})
    if form == "inputs":
        columns = {
            name: array.astype(str).tolist() if array.dtype == object else array.tolist()
            for name, array in request.inputs.items()
        }
        _, reply = codec(model).decode(orjson.dumps({"inputs": columns}), {})
    outputs = {
        spec.name: np.ones([1 if size == -1 else size for size in spec.shape], spec.dtype)
        for spec in model.signature.outputs
    }
    answer, _ = reply.encode(outputs)
    assert accepts(response_schema(document, model), orjson.loads(answer))
    assert not accepts(response_schema(document, model), {"predictions": "wrong"})


def test_a_model_of_several_inputs_is_not_offered_the_format_of_one(document):
    one = document["paths"]["/models/iris/predict"]["post"]["requestBody"]["content"]
    several = document["paths"]["/models/pair.v2-final/predict"]["post"]["requestBody"]["content"]
    assert list(one) == ["application/json", "application/x-npy", "application/x-npz"]
    assert list(several) == ["application/json", "application/x-npz"]


def test_without_a_default_model_predict_names_the_models_and_offers_no_body():
    models = [ModelDescription("b", 1, IRIS, True), ModelDescription("a", 1, TEXT, True)]
    predict = build_openapi("inferd", "1", models)["paths"]["/predict"]["post"]
    assert predict["description"].endswith("Models: a, b.")
    assert "requestBody" not in predict
    assert "200" not in predict["responses"]


def test_a_server_without_models_still_has_a_document():
    assert OpenAPI.model_validate(build_openapi("inferd", "1", [])).paths


def test_it_merges_with_the_document_of_the_web_framework(document):
    app = FastAPI(title="cold")

    @app.get("/admin/models")
    def index(limit: int) -> dict[str, int]:
        return {"limit": limit}

    @app.get("/health")
    def health() -> None: ...

    cold = app.openapi()
    before = orjson.dumps([cold, document])
    merged = merge(cold, document)
    assert orjson.dumps([cold, document]) == before
    assert merged["info"]["title"] == "inferd"
    assert merged["paths"]["/admin/models"] == cold["paths"]["/admin/models"]
    assert merged["paths"]["/health"] == document["paths"]["/health"]
    assert {"HTTPValidationError", "Problem", "iris.3.Request"} <= merged["components"]["schemas"].keys()
    assert OpenAPI.model_validate(merged)
