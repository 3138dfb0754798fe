"""What clients made with ``tensorflow-serving-api`` do; run by ``test_tfserving_client.py`` in a process of their own,
since TensorFlow's stubs and ours each want protobuf's default pool.

Usage: tfserving_calls.py GRPC_PORT. Prints a JSON object: each call's name, and "" or what went wrong.
"""

import json
import sys
import traceback

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

CHANNEL = grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}")
SERVICE = prediction_service_pb2_grpc.PredictionServiceStub(CHANNEL)
VALUES = {
    "bool": np.array([True, False]),
    "int8": np.int8([-128, 127]),
    "int16": np.int16([-(2**15), 2**15 - 1]),
    "int32": np.int32([-(2**31), 2**31 - 1]),
    "int64": np.int64([-(2**63), 2**63 - 1]),
    "uint8": np.uint8([0, 255]),
    "uint16": np.uint16([0, 2**16 - 1]),
    "uint32": np.uint32([0, 2**32 - 1]),
    "uint64": np.uint64([0, 2**64 - 1]),
    "fp16": np.float16([0.5, -2]),
    "bf16": np.array([0.5, -2], tf.bfloat16.as_numpy_dtype),
    "fp32": np.float32([1 / 3, -1e-45]),
    "fp64": np.float64([1 / 3, 1e300]),
    "bytes": np.array([b"\xff\xd8\0", b""], object),
}
IMAGE = b"\xff\xd8\xff" + bytes(5000)


def predict(model, inputs, **spec):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    for name, value in spec.items():
        getattr(request.model_spec, name).value = value
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    return SERVICE.Predict(request, timeout=30)


def examples(request, model, *images):
    request.model_spec.name = model
    for image in images:
        feature = {"image_bytes": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))}
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        request.input.example_list.examples.add().ParseFromString(example.SerializeToString())
    return request


def code(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def call_every_datatype_comes_back_as_it_went():
    outputs = predict("echo", VALUES).outputs
    for name, array in VALUES.items():
        back = tf.make_ndarray(outputs[f"{name}_out"])
        assert back.dtype == array.dtype, (name, back.dtype)
        assert back.tolist() == array.tolist(), (name, back)


def call_an_image_is_predicted_as_the_resnet_client_does():
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "size"
    request.model_spec.signature_name = "serving_default"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(IMAGE, shape=[1]))
    assert tf.make_ndarray(SERVICE.Predict(request, timeout=30).outputs["outputs"]).tolist() == [len(IMAGE)]


def call_many_are_asked_ahead_as_the_mnist_client_does():
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "size"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([b"one", b"three"]))
    futures = [SERVICE.Predict.future(request, 30) for _ in range(200)]
    assert all(list(each.result().outputs["outputs"].float_val) == [3, 5] for each in futures)


def call_examples_are_classified_and_regressed():
    regressed = SERVICE.Regress(examples(regression_pb2.RegressionRequest(), "size", b"abc", b"abcde"), timeout=30)
    assert [each.value for each in regressed.result.regressions] == [3, 5]
    classified = SERVICE.Classify(examples(classification_pb2.ClassificationRequest(), "scores", b"abc"), timeout=30)
    assert [(each.label, each.score) for each in classified.result.classifications[0].classes] == [("0", 3), ("1", 1.5)]
    several = inference_pb2.MultiInferenceRequest(input=regression_request().input)
    several.tasks.add(method_name="tensorflow/serving/regress").model_spec.name = "size"
    several.tasks.add(method_name="tensorflow/serving/classify").model_spec.name = "scores"
    first, second = SERVICE.MultiInference(several, timeout=30).results
    assert first.regression_result.regressions[0].value == 3
    assert second.classification_result.classifications[0].classes[0].score == 3


def regression_request():
    return examples(regression_pb2.RegressionRequest(), "size", b"abc")


def call_mistakes_have_the_codes_of_tf_serving():
    assert code(predict, "nobody", {}) == "NOT_FOUND"
    assert code(predict, "size", {"image_bytes": [b"a"]}, version=9) == "NOT_FOUND"
    assert code(predict, "size", {"image_bytes": [1.5]}) == "INVALID_ARGUMENT"
    assert code(predict, "size", {"picture": [b"a"]}) == "INVALID_ARGUMENT"


def call_the_state_of_a_model_is_told():
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "size"
    (version,) = model_service_pb2_grpc.ModelServiceStub(CHANNEL).GetModelStatus(status, 30).model_version_status
    assert version.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE


found = {}
for name, call in list(globals().items()):
    if name.startswith("call_"):
        try:
            call()
            found[name] = ""
        except Exception:
            found[name] = traceback.format_exc()
print(json.dumps(found))
