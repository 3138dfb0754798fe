"""A real server and Triton's own HTTP clients, unmodified."""

import asyncio
import json

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from serve_support import EXAMPLES, Process
from tritonclient.utils import InferenceServerException

INTEGERS = [f"{sign}INT{bits}" for sign in ("U", "") for bits in (8, 16, 32, 64)]
TYPES = ["BOOL", *INTEGERS, "FP16", "FP32", "FP64", "BF16", "BYTES"]
ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)


ECHO = """
TYPES = {TYPES}


class Echo:
    inputs = {name.lower(): f"{name}[-1, 2]" for name in TYPES}
    outputs = {name.lower() + "_out": f"{name}[-1, 2]" for name in TYPES}
    batchable = True

    def predict(self, {ARGUMENTS}):
        tensors = locals()
        return {name + "_out": tensors[name] for name in self.inputs}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("v2")
    (folder / "echo.py").write_text(
        ECHO.replace("{TYPES}", repr(TYPES)).replace("{ARGUMENTS}", ", ".join(TYPES).lower())
    )
    with Process(folder, "serve", "echo.py:Echo", EXAMPLES / "iris-onnx", EXAMPLES / "topic") as process:
        yield process.wait_ready()


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


def flowers(binary=True, module=triton):
    tensor = module.InferInput("x", ROWS.shape, "FP32")
    tensor.set_data_from_numpy(ROWS, binary_data=binary)
    return tensor


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_inference_gives_what_the_native_route_gives(server, client, binary, compression):
    answer = client.infer(
        "iris-onnx",
        [flowers(binary)],
        request_id="7",
        outputs=[triton.InferRequestedOutput(name, binary_data=binary) for name in ("label", "probabilities")],
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    native = json.loads(server.predict(ROWS.tolist(), "/models/iris-onnx/predict")[2])["predictions"]
    assert answer.get_response()["id"] == "7"
    labels = [label.decode() if binary else label for label in answer.as_numpy("label")]
    assert labels == [each["label"] for each in native]
    np.testing.assert_allclose(answer.as_numpy("probabilities"), [each["probabilities"] for each in native], rtol=1e-6)


def values(datatype):
    if datatype == "BYTES":
        return np.array([[b"a\xff", b""], ["ü".encode(), b"0" * 300]], dtype=object)
    if datatype == "BOOL":
        return np.array([[True, False], [False, True]])
    if datatype == "BF16":
        return np.array([[0.5, -2], [3, 1024]], ml_dtypes.bfloat16)
    if datatype.startswith("FP"):
        return np.array([[0.5, -1.25], [1024, 3]], f"f{int(datatype[2:]) // 8}")
    dtype = np.dtype(datatype.lower())
    limits = np.iinfo(dtype)
    return np.array([[limits.min, limits.max], [0, 1]], dtype)


def echo_inputs(arrays, module=triton):
    tensors = []
    for datatype, array in arrays.items():
        tensors.append(module.InferInput(datatype.lower(), array.shape, datatype))
        tensors[-1].set_data_from_numpy(array)
    return tensors


def test_every_datatype_comes_back_as_it_went(client):
    arrays = {datatype: values(datatype) for datatype in TYPES}
    answer = client.infer("echo", echo_inputs(arrays))
    for datatype, array in arrays.items():
        back = answer.as_numpy(datatype.lower() + "_out")
        np.testing.assert_array_equal(back.astype(np.float32) if datatype == "BF16" else back, array)


def test_text_goes_in_and_labels_come_out(client):
    tensor = triton.InferInput("text", [1], "BYTES")
    name = client.get_model_metadata("topic")["inputs"][0]["name"]
    shape = [1] * len(client.get_model_metadata("topic")["inputs"][0]["shape"])
    tensor = triton.InferInput(name, shape, "BYTES")
    tensor.set_data_from_numpy(np.array(["the rocket reached its orbit"], dtype=object).reshape(shape))
    assert client.infer("topic", [tensor]).as_numpy("label").size == 1


def test_what_surrounds_inference_is_read_by_the_client(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris-onnx", "1")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata()["name"] == "inferd"
    assert client.get_model_metadata("iris-onnx", "1")["versions"] == ["1"]
    assert client.get_model_config("iris-onnx")["input"][0]["dims"] == [4]
    client.infer("iris-onnx", [flowers()])
    (statistics,) = client.get_inference_statistics("iris-onnx", "1")["model_stats"]
    assert statistics["inference_stats"]["success"]["count"] >= 1
    names = {each["name"] for each in client.get_inference_statistics()["model_stats"]}
    assert {"iris-onnx", "topic"} <= names
    assert {"iris-onnx", "topic"} <= {each["name"] for each in client.get_model_repository_index()}


def test_classes_come_as_text(client):
    wanted = [triton.InferRequestedOutput("probabilities", class_count=2)]
    classes = client.infer("iris-onnx", [flowers()], outputs=wanted).as_numpy("probabilities")
    assert classes.shape == (2, 2)
    assert classes[0, 0].decode().split(":")[1] == "0"


def test_errors_are_read_by_the_client(client):
    with pytest.raises(InferenceServerException, match="nobody"):
        client.infer("nobody", [flowers()])
    with pytest.raises(InferenceServerException, match="unknown output"):
        client.infer("iris-onnx", [flowers()], outputs=[triton.InferRequestedOutput("nothing")])
    with pytest.raises(InferenceServerException, match="--allow-shared-memory"):
        client.register_system_shared_memory("region", "/region", 64)


def test_many_requests_at_once_get_their_own_answers(server):
    async def ask(client, number):
        arrays = {datatype: values(datatype) for datatype in TYPES}
        arrays["INT64"] = np.full((2, 2), number, np.int64)
        answer = await client.infer("echo", echo_inputs(arrays, triton_aio), request_id=str(number))
        assert answer.get_response()["id"] == str(number)
        np.testing.assert_array_equal(answer.as_numpy("int64_out"), arrays["INT64"])

    async def main():
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.port}", conn_limit=16) as client:
            await asyncio.gather(*(ask(client, number) for number in range(200)))

    asyncio.run(main())


def test_models_are_loaded_and_unloaded_by_the_client(tmp_path, server, client):
    with pytest.raises(InferenceServerException, match="--model-control"):
        client.unload_model("topic")
    flags = ("--model-control", "--state-file", tmp_path / "state.db")
    with (
        Process(tmp_path, "serve", EXAMPLES / "iris-onnx", *flags) as process,
        triton.InferenceServerClient(f"127.0.0.1:{process.wait_ready().port}") as control,
    ):
        control.unload_model("iris-onnx")
        assert not control.is_model_ready("iris-onnx")
        (entry,) = control.get_model_repository_index()
        assert entry["state"] == "UNAVAILABLE"
        control.load_model("iris-onnx")
        control.load_model("iris-onnx")
        assert control.infer("iris-onnx", [flowers()]).as_numpy("label").size == 2
        with pytest.raises(InferenceServerException, match="no model named"):
            control.load_model("nobody")
