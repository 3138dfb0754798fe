"""TF Serving over gRPC, message by message: what goes in, what comes out, and what callers get wrong."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from grpc_support import HALVES, TYPED

from inferd.core.tensors import numpy_dtype
from inferd.protocols.grpc.schema import message_class
from inferd.protocols.grpc.wire import length_field
from inferd.protocols.tfserving.grpc.tensors import numbers, read_tensor, write_tensor

PREDICTION = "tensorflow.serving.PredictionService"
MODELS = "tensorflow.serving.ModelService"


def message(name, **values):
    return message_class(f"tensorflow.serving.{name}")(**values)


def spec(name, **more):
    return {"name": name, **more}


def proto(array, **more):
    """A tensor with its values in ``tensor_content``."""
    array = np.asarray(array)
    name = {"float32": "FP32", "float64": "FP64", "int64": "INT64"}[array.dtype.name]
    dims = [{"size": size} for size in array.shape]
    return {"dtype": numbers()[name], "tensor_shape": {"dim": dims}, "tensor_content": array.tobytes(), **more}


def ask(served, method, request, service=PREDICTION, answer=None):
    body = request if isinstance(request, bytes) else request.SerializeToString()
    status, details, reply = served.raw_call(method, body, service=service)
    return status, details, message(answer or f"{method}Response").FromString(reply)


def predict(served, **values):
    return ask(served, "Predict", message("PredictRequest", **values))


ROWS = np.array([[1, 2], [3, 4]], np.float32)


def test_predict_answers_with_values_where_clients_look(served):
    status, details, answer = predict(served, model_spec=spec("strict"), inputs={"x": proto(ROWS)})
    assert (status, details) == ("OK", "")
    assert list(answer.outputs["y"].float_val) == [2, 4, 6, 8]
    assert [dim.size for dim in answer.outputs["y"].tensor_shape.dim] == [2, 2]
    assert list(answer.outputs["name"].string_val) == [b"row", b"row"]
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("strict", 1)
    assert answer.model_spec.signature_name == "serving_default"


def test_the_answers_bytes_are_golden(served):
    request = message("PredictRequest", model_spec=spec("strict"), inputs={"x": proto(ROWS[:1])}, output_filter=["y"])
    _, _, body = served.raw_call("Predict", request.SerializeToString(), service=PREDICTION)
    shape = length_field(2, b"\x08\x01") + length_field(2, b"\x08\x02")
    tensor = b"\x08\x01" + length_field(2, shape) + length_field(5, np.array([2, 4], "<f4").tobytes())
    who = length_field(1, b"strict") + length_field(2, b"\x08\x01") + length_field(3, b"serving_default")
    assert body == length_field(1, length_field(1, b"y") + length_field(2, tensor)) + length_field(2, who)


@pytest.mark.parametrize("datatype", [*TYPED, *HALVES])
@pytest.mark.parametrize("packed", [False, True])
def test_every_type_survives_both_ways(datatype, packed):
    values = [[b"a", b"\xff"]] if datatype == "BYTES" else [[1, 0]]
    array = np.array(values, dtype=numpy_dtype(datatype))
    tensor = message_class("tensorflow.TensorProto").FromString(write_tensor(array, "x"))
    if packed and datatype != "BYTES":
        tensor = type(tensor)(dtype=tensor.dtype, tensor_shape=tensor.tensor_shape, tensor_content=array.tobytes())
    read = read_tensor(tensor, "x")
    assert read.dtype == array.dtype
    assert read.tolist() == array.tolist()


def test_one_value_stands_for_a_whole_tensor(served):
    dims = {"dim": [{"size": 2}, {"size": 2}]}
    filled = {"dtype": numbers()["FP32"], "tensor_shape": dims, "float_val": [1, 5]}
    _, _, answer = predict(served, model_spec=spec("strict"), inputs={"x": filled}, output_filter=["y"])
    assert list(answer.outputs["y"].float_val) == [2, 10, 10, 10]
    empty = {"dtype": numbers()["FP32"], "tensor_shape": dims}
    _, _, answer = predict(served, model_spec=spec("strict"), inputs={"x": empty}, output_filter=["y"])
    assert list(answer.outputs["y"].float_val) == [0, 0, 0, 0]


def example(**features):
    return {"features": {"feature": {name: {"float_list": {"value": value}} for name, value in features.items()}}}


def test_classify_reads_examples_with_their_context(served):
    request = message(
        "ClassificationRequest",
        model_spec=spec("strict"),
        input={"example_list_with_context": {"examples": [example(), example(x=[3, 4])], "context": example(x=[1, 2])}},
    )
    status, details, answer = ask(served, "Classify", request, answer="ClassificationResponse")
    assert (status, details) == ("OK", "")
    found = [[(each.label, each.score) for each in row.classes] for row in answer.result.classifications]
    assert found == [[("0", 2.0), ("1", 4.0)], [("0", 6.0), ("1", 8.0)]]


def test_several_tasks_are_answered_in_their_order_or_not_at_all(served):
    examples = {"example_list": {"examples": [example(x=[1, 2])]}}
    classify = {"method_name": "tensorflow/serving/classify", "model_spec": spec("strict")}
    request = message("MultiInferenceRequest", tasks=[classify, classify], input=examples)
    _, _, answer = ask(served, "MultiInference", request)
    assert [len(result.classification_result.classifications) for result in answer.results] == [1, 1]
    regress = {"method_name": "tensorflow/serving/regress", "model_spec": spec("strict")}
    request = message("MultiInferenceRequest", tasks=[classify, regress], input=examples)
    status, details, _ = ask(served, "MultiInference", request)
    assert status == "INVALID_ARGUMENT"
    assert "one number per row" in details


def test_metadata_and_status_are_told(served):
    request = message("GetModelMetadataRequest", model_spec=spec("strict"), metadata_field=["signature_def"])
    _, _, answer = ask(served, "GetModelMetadata", request)
    packed = answer.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signature = message("SignatureDefMap").FromString(packed.value).signature_def["serving_default"]
    assert [dim.size for dim in signature.inputs["x"].tensor_shape.dim] == [-1, 2]
    _, _, answer = ask(served, "GetModelStatus", message("GetModelStatusRequest", model_spec=spec("strict")), MODELS)
    (version,) = answer.model_version_status
    assert (version.version, version.state, version.status.error_code) == (1, 30, 0)


def test_reloading_needs_the_servers_leave(served):
    status, details, _ = ask(
        served, "HandleReloadConfigRequest", message("ReloadConfigRequest"), MODELS, "ReloadConfigResponse"
    )
    assert status == "UNIMPLEMENTED"
    assert "--model-control" in details


F = {"dtype": 1, "tensor_shape": {"dim": [{"size": 1}, {"size": 2}]}}
WRONG = {
    "no bytes of a message": ("Predict", b"\xff\xff\xff", "INVALID_ARGUMENT", "protobuf"),
    "a length past the end": ("Predict", b"\x0a\x7f", "INVALID_ARGUMENT", "protobuf"),
    "no model": ("Predict", message("PredictRequest"), "INVALID_ARGUMENT", "names no model"),
    "another model": ("Predict", message("PredictRequest", model_spec=spec("other")), "NOT_FOUND", "no model named"),
    "another version": (
        "Predict",
        message("PredictRequest", model_spec=spec("strict", version={"value": 9})),
        "NOT_FOUND",
        "has no version 9",
    ),
    "a negative version": (
        "Predict",
        message("PredictRequest", model_spec=spec("strict", version={"value": -1})),
        "NOT_FOUND",
        "has no version -1",
    ),
    "an unknown label": (
        "Predict",
        message("PredictRequest", model_spec=spec("strict", version_label="canary")),
        "NOT_FOUND",
        "has no version canary",
    ),
    "an unknown signature": (
        "Predict",
        message("PredictRequest", model_spec=spec("strict", signature_name="no")),
        "INVALID_ARGUMENT",
        "signature_name is",
    ),
    "a missing input": ("Predict", {}, "INVALID_ARGUMENT", "missing"),
    "an unknown input": ("Predict", {"z": proto(ROWS)}, "INVALID_ARGUMENT", "unknown input"),
    "another dtype": ("Predict", {"x": proto(ROWS.astype(np.float64))}, "INVALID_ARGUMENT", "the model takes FP32"),
    "a wrong rank": ("Predict", {"x": proto(ROWS[0])}, "INVALID_ARGUMENT", "the model takes FP32"),
    "no dtype": ("Predict", {"x": {}}, "INVALID_ARGUMENT", "has dtype 0"),
    "a complex dtype": ("Predict", {"x": {**F, "dtype": 8}}, "INVALID_ARGUMENT", "has dtype 8"),
    "too little content": ("Predict", {"x": {**F, "tensor_content": b"1234"}}, "INVALID_ARGUMENT", "has 4 bytes"),
    "too much content": ("Predict", {"x": {**F, "tensor_content": bytes(9)}}, "INVALID_ARGUMENT", "has 9 bytes"),
    "too many values": ("Predict", {"x": {**F, "float_val": [1, 2, 3]}}, "INVALID_ARGUMENT", "has 3 values"),
    "a negative size": (
        "Predict",
        {"x": {"dtype": 1, "tensor_shape": {"dim": [{"size": -1}, {"size": 2}]}}},
        "INVALID_ARGUMENT",
        "no definite shape",
    ),
    "an unknown rank": (
        "Predict",
        {"x": {"dtype": 1, "tensor_shape": {"unknown_rank": True}}},
        "INVALID_ARGUMENT",
        "no definite shape",
    ),
    "a shape beyond memory": (
        "Predict",
        {"x": {"dtype": 1, "tensor_shape": {"dim": [{"size": 2**62}, {"size": 2**62}]}, "float_val": [1]}},
        "INVALID_ARGUMENT",
        "has 1 values",
    ),
    "too many dimensions": (
        "Predict",
        {"x": {"dtype": 1, "tensor_shape": {"dim": [{"size": 1}] * 40}}},
        "INVALID_ARGUMENT",
        "no definite shape",
    ),
    "an unknown output": (
        "Predict",
        message("PredictRequest", model_spec=spec("strict"), inputs={"x": proto(ROWS)}, output_filter=["no"]),
        "INVALID_ARGUMENT",
        "no output named",
    ),
    "the caller's mistake, found by the model": ("Predict", {"x": proto(-ROWS)}, "INVALID_ARGUMENT", "minus one"),
    "a model that breaks": ("Predict", {"x": proto(ROWS * -2)}, "INTERNAL", ""),
    "no examples": (
        "Classify",
        message("ClassificationRequest", model_spec=spec("strict")),
        "INVALID_ARGUMENT",
        "no examples",
    ),
    "a feature too short": ("Classify", [example(x=[1])], "INVALID_ARGUMENT", "has 1 values"),
    "features of other lengths": ("Classify", [example(x=[1, 2]), example(x=[1])], "INVALID_ARGUMENT", "same number"),
    "an unknown feature": ("Classify", [example(x=[1, 2], z=[1])], "INVALID_ARGUMENT", "unknown input"),
    "an empty example": ("Classify", [{}], "INVALID_ARGUMENT", "missing"),
    "a feature of another kind": (
        "Classify",
        [{"features": {"feature": {"x": {"int64_list": {"value": [1, 2]}}}}}],
        "INVALID_ARGUMENT",
        "takes float_list",
    ),
    "no tasks": ("MultiInference", message("MultiInferenceRequest"), "INVALID_ARGUMENT", "has 0 tasks"),
    "an unknown task": (
        "MultiInference",
        message("MultiInferenceRequest", tasks=[{"method_name": "train"}]),
        "INVALID_ARGUMENT",
        "method_name",
    ),
    "other metadata": (
        "GetModelMetadata",
        message("GetModelMetadataRequest", model_spec=spec("strict"), metadata_field=["x"]),
        "INVALID_ARGUMENT",
        "signature_def",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_what_callers_get_wrong_has_a_code_and_a_reason(served, mistake):
    method, request, status, reason = WRONG[mistake]
    if isinstance(request, dict):
        request = message("PredictRequest", model_spec=spec("strict"), inputs=request)
    elif isinstance(request, list):
        request = message(
            "ClassificationRequest", model_spec=spec("strict"), input={"example_list": {"examples": request}}
        )
    body = request if isinstance(request, bytes) else request.SerializeToString()
    got, details, _ = served.raw_call(method, body, service=PREDICTION)
    assert got == status
    assert reason in details
    assert "secret" not in details
    assert predict(served, model_spec=spec("strict"), inputs={"x": proto(ROWS)})[0] == "OK"


def test_our_messages_have_the_published_names_and_numbers():
    """In a process of its own: TensorFlow's stubs and their pool are not for this one."""
    script = textwrap.dedent(
        """
        import json
        from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2
        from google.protobuf import descriptor_pool
        import sys
        pool = descriptor_pool.Default()
        found = {}
        for name in json.load(sys.stdin):
            fields = pool.FindMessageTypeByName(name).fields
            found[name] = {f.name: [f.number, f.type, f.is_repeated] for f in fields}
        json.dump(found, sys.stdout)
        """
    )

    from inferd.protocols.grpc.schema import descriptors

    ours = {}
    for file in descriptors().file:
        if file.package in ("tensorflow", "tensorflow.serving"):
            for each in file.message_type:
                ours[f"{file.package}.{each.name}"] = {
                    field.name: [field.number, field.type, field.label == FieldDescriptorProto.LABEL_REPEATED]
                    for field in each.field
                }
    done = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(list(ours)), capture_output=True, text=True, timeout=120
    )
    published = json.loads(done.stdout)
    assert len(ours) > 30
    for name, members in ours.items():
        assert members.items() <= published[name].items(), name
