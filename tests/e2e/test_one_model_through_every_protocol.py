"""The same tensors through every protocol give the same outputs, and the same errors in each protocol's own shape.

One server process, one model, loaded once.
"""

import http.client
import io
import json

import grpc
import numpy as np
import pytest
from serve_support import Process, free_port

from inferd.protocols.grpc.schema import message_class
from inferd.protocols.tfserving.grpc.tensors import read_tensor, write_tensor

MODEL = """
import inferd
import numpy as np

class Model:
    inputs = {"x": "FP32[-1, 3]"}
    outputs = {"y": "FP32[-1, 3]"}
    batchable = True

    def predict(self, x: np.ndarray) -> np.ndarray:
        if (x == -1).any():
            raise inferd.InvalidInput("minus one is not for this model")
        if (x == -2).any():
            raise RuntimeError("a secret path: /etc/shadow")
        return x * np.float32(3)
"""
JSON = "application/json"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("protocols")
    (folder / "triple.py").write_text(MODEL)
    ports = {name: free_port() for name in ("grpc", "sagemaker", "vertex", "mlflow", "torchserve")}
    doors = [f"--door={name}={port}" for name, port in ports.items() if name != "grpc"]
    with Process(folder, "serve", "triple.py:Model", "--grpc-port", ports["grpc"], *doors) as process:
        process.wait_ready()
        ports["plain"] = process.port
        with grpc.insecure_channel(f"127.0.0.1:{ports['grpc']}") as channel:
            yield ports, channel


class Refused(Exception):
    def __init__(self, status, body):
        super().__init__(status, body)
        self.status, self.body = status, body


def post(port, path, body, content_type=JSON, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body, {"Content-Type": content_type, **named})
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise Refused(response.status, answer)
        return response, answer
    finally:
        connection.close()


def call(channel, method, request, answer):
    try:
        body = channel.unary_unary(method)(request.SerializeToString(), timeout=20)
    except grpc.RpcError as error:
        raise Refused(error.code(), error.details()) from None
    return message_class(answer).FromString(body)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def predictions(answer, member="predictions"):
    return np.array(json.loads(answer[1])[member], np.float32).reshape(-1, 3)


def native_rows(ports, channel, x, model):
    return predictions(post(ports["plain"], f"/models/{model}/predict", json.dumps({"instances": x.tolist()})))


def native_columns(ports, channel, x, model):
    body = json.dumps({"inputs": {"x": x.tolist()}})
    return predictions(post(ports["plain"], f"/models/{model}/predict", body), "outputs")


def native_npy(ports, channel, x, model):
    kind = "application/x-npy"
    return np.load(io.BytesIO(post(ports["plain"], f"/models/{model}/predict", npy(x), kind, Accept=kind)[1]))


def v2_json(ports, channel, x, model):
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    answer = json.loads(post(ports["plain"], f"/v2/models/{model}/infer", json.dumps({"inputs": [tensor]}))[1])
    return np.array(answer["outputs"][0]["data"], np.float32).reshape(answer["outputs"][0]["shape"])


def v2_binary(ports, channel, x, model):
    tensor = {
        "name": "x",
        "shape": list(x.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": x.nbytes},
    }
    wanted = {"name": "y", "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
    response, body = post(
        ports["plain"],
        f"/v2/models/{model}/infer",
        head + x.tobytes(),
        "application/octet-stream",
        Inference_Header_Content_Length=str(len(head)),
    )
    size = int(response.getheader("Inference-Header-Content-Length"))
    shape = json.loads(body[:size])["outputs"][0]["shape"]
    return np.frombuffer(body[size:], np.float32).reshape(shape)


def _v2_grpc(channel, x, model, tensor=None, **contents):
    tensor = {"name": "x", "datatype": "FP32", "shape": x.shape, **(tensor or {})}
    request = message_class("inference.ModelInferRequest")(model_name=model, inputs=[tensor], **contents)
    return call(channel, "/inference.GRPCInferenceService/ModelInfer", request, "inference.ModelInferResponse")


def v2_grpc_raw(ports, channel, x, model):
    answer = _v2_grpc(channel, x, model, raw_input_contents=[x.tobytes()])
    return np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(answer.outputs[0].shape)


def v2_grpc_typed(ports, channel, x, model):
    answer = _v2_grpc(channel, x, model, tensor={"contents": {"fp32_contents": x.ravel().tolist()}})
    return np.array(answer.outputs[0].contents.fp32_contents, np.float32).reshape(answer.outputs[0].shape)


def tfserving_rows(ports, channel, x, model):
    return predictions(post(ports["plain"], f"/v1/models/{model}:predict", json.dumps({"instances": x.tolist()})))


def tfserving_columns(ports, channel, x, model):
    body = json.dumps({"inputs": x.tolist()})
    return predictions(post(ports["plain"], f"/v1/models/{model}:predict", body), "outputs")


def tfserving_grpc(ports, channel, x, model):
    request = message_class("tensorflow.serving.PredictRequest")(model_spec={"name": model})
    request.inputs["x"].ParseFromString(write_tensor(x, "x"))
    method = "/tensorflow.serving.PredictionService/Predict"
    return read_tensor(call(channel, method, request, "tensorflow.serving.PredictResponse").outputs["y"], "y")


def torchserve(ports, channel, x, model):
    answer = post(ports["torchserve"], f"/predictions/{model}", json.dumps(x.tolist()))[1]
    return np.array(json.loads(answer), np.float32).reshape(-1, 3)


def sagemaker_json(ports, channel, x, model):
    return predictions(post(ports["sagemaker"], "/invocations", json.dumps({"instances": x.tolist()})))


def sagemaker_csv(ports, channel, x, model):
    body = "\n".join(",".join(repr(float(value)) for value in row) for row in x)
    answer = post(ports["sagemaker"], "/invocations", body, "text/csv", Accept=JSON)
    return predictions(answer)


def vertex(ports, channel, x, model):
    return predictions(post(ports["vertex"], "/predict", json.dumps({"instances": x.tolist()})))


def _mlflow(ports, body, content_type=JSON):
    return predictions(post(ports["mlflow"], "/invocations", body, content_type))


def mlflow_split(ports, channel, x, model):
    frame = {"columns": list(range(x.shape[1])), "data": x.tolist()}
    return _mlflow(ports, json.dumps({"dataframe_split": frame}))


def mlflow_records(ports, channel, x, model):
    records = [dict(zip("abc", row, strict=False)) for row in x.tolist()]
    return _mlflow(ports, json.dumps({"dataframe_records": records}))


def mlflow_inputs(ports, channel, x, model):
    return _mlflow(ports, json.dumps({"inputs": x.tolist()}))


def mlflow_csv(ports, channel, x, model):
    lines = [",".join("abc"[: x.shape[1]]), *(",".join(map(repr, row)) for row in x.tolist()), ""]
    return _mlflow(ports, "\n".join(lines), "text/csv")


NAMED = (
    native_rows,
    native_columns,
    native_npy,
    v2_json,
    v2_binary,
    v2_grpc_raw,
    v2_grpc_typed,
    tfserving_rows,
    tfserving_columns,
    tfserving_grpc,
    torchserve,
)
ALONE = (sagemaker_json, sagemaker_csv, vertex, mlflow_split, mlflow_records, mlflow_inputs, mlflow_csv)
"""Protocols whose requests name no model."""
RANDOM = np.random.default_rng(3)
TENSORS = {
    "one row": np.array([[0.1, -0.0, 3]], np.float32),
    "many rows": RANDOM.normal(size=(200, 3)).astype(np.float32),
    "the ends of the range": np.array([[1e-45, 1.1e38, -1.1e38], [1.17549435e-38, 16777217, 1 / 3]], np.float32),
}


@pytest.mark.parametrize("protocol", NAMED + ALONE, ids=lambda each: each.__name__)
@pytest.mark.parametrize("tensor", TENSORS)
def test_the_same_tensor_gives_the_same_output(served, protocol, tensor):
    x = TENSORS[tensor]
    y = protocol(*served, x, "triple")
    assert y.dtype == np.float32
    assert np.array_equal(y, x * np.float32(3))


HTTP = {
    "no model": {404},
    "the caller's mistake": {400, 422},
    "the model's failure": {500},
    "a wrong shape": {400, 422},
}
GRPC = {
    "no model": grpc.StatusCode.NOT_FOUND,
    "the caller's mistake": grpc.StatusCode.INVALID_ARGUMENT,
    "the model's failure": grpc.StatusCode.INTERNAL,
    "a wrong shape": grpc.StatusCode.INVALID_ARGUMENT,
}
ROWS = {
    "no model": [[1, 2, 3]],
    "the caller's mistake": [[-1, 2, 3]],
    "the model's failure": [[-2, 2, 3]],
    "a wrong shape": [[1, 2]],
}
SHAPES = {
    "native": {"type", "title", "status", "detail"},
    "v2": {"error"},
    "tfserving": {"error"},
    "torchserve": {"code", "type", "message"},
    "sagemaker": {"error"},
    "vertex": {"error"},
    "mlflow": {"error_code", "message"},
}


@pytest.mark.parametrize("protocol", NAMED + ALONE, ids=lambda each: each.__name__)
@pytest.mark.parametrize("mistake", HTTP)
def test_the_same_mistake_has_each_protocols_own_shape_and_status(served, protocol, mistake):
    if mistake == "no model" and protocol in ALONE:
        protocol = v2_json
    x = np.array(ROWS[mistake], np.float32)
    with pytest.raises(Refused) as refused:
        protocol(*served, x, "other" if mistake == "no model" else "triple")
    status, body = refused.value.status, refused.value.body
    assert b"secret" not in body.encode() if isinstance(body, str) else b"secret" not in body
    if isinstance(status, grpc.StatusCode):
        assert status is GRPC[mistake]
    else:
        assert status in HTTP[mistake]
        assert SHAPES[protocol.__name__.partition("_")[0]] <= json.loads(body).keys()
    good = TENSORS["one row"]
    assert np.array_equal(protocol(*served, good, "triple"), good * np.float32(3))
