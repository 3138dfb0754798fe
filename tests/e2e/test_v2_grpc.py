"""A real server and Triton's own gRPC clients, unmodified."""

import asyncio

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from serve_support import EXAMPLES, Process, free_port
from tritonclient.utils import InferenceServerException

ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)


@pytest.fixture(scope="module", params=["grpcio", "native"])
def address(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("v2-grpc")
    port = free_port()
    flags = ("--grpc-port", port, "--grpc-front", request.param)
    with Process(folder, "serve", EXAMPLES / "iris-onnx", EXAMPLES / "topic", *flags) as process:
        process.wait_ready()
        yield f"127.0.0.1:{port}"


@pytest.fixture
def client(address):
    with triton.InferenceServerClient(address) as client:
        yield client


def flowers(rows=ROWS, module=triton):
    tensor = module.InferInput("x", rows.shape, "FP32")
    tensor.set_data_from_numpy(rows)
    return tensor


def test_inference_is_answered_with_raw_tensors(client):
    answer = client.infer("iris-onnx", [flowers()], request_id="7", model_version="1")
    assert answer.get_response().id == "7"
    assert answer.as_numpy("label").tolist() == [b"setosa", b"virginica"]
    assert answer.as_numpy("probabilities").argmax(axis=1).tolist() == [0, 2]


def test_only_the_outputs_asked_for_come(client):
    wanted = [triton.InferRequestedOutput("probabilities", class_count=1)]
    answer = client.infer("iris-onnx", [flowers()], outputs=wanted)
    assert answer.as_numpy("label") is None
    assert [row[0].split(b":")[1] for row in answer.as_numpy("probabilities")] == [b"0", b"2"]


def test_what_surrounds_inference_is_read_by_the_client(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris-onnx", "1")
    assert client.get_server_metadata().name == "inferd"
    assert client.get_model_metadata("iris-onnx").inputs[0].name == "x"
    assert list(client.get_model_config("iris-onnx").config.input[0].dims) == [4]
    client.infer("iris-onnx", [flowers()])
    assert client.get_inference_statistics("iris-onnx").model_stats[0].inference_count >= 2
    assert {model.name for model in client.get_model_repository_index().models} == {"iris-onnx", "topic"}


def test_errors_are_read_by_the_client(client):
    with pytest.raises(InferenceServerException, match=r"NOT_FOUND.*nobody"):
        client.infer("nobody", [flowers()])
    with pytest.raises(InferenceServerException, match="INVALID_ARGUMENT"):
        client.infer("iris-onnx", [flowers(ROWS[:, :3].copy())])


def test_many_calls_at_once_get_their_own_answers(address):
    async def ask(client, number):
        row = np.full((1, 4), number, np.float32)
        answer = await client.infer("iris-onnx", [flowers(row, triton_aio)], request_id=str(number))
        assert answer.get_response().id == str(number)
        return answer.as_numpy("probabilities")[0].tolist()

    async def main():
        async with triton_aio.InferenceServerClient(address) as client:
            together = await asyncio.gather(*(ask(client, number) for number in range(200)))
            alone = [await ask(client, number) for number in range(0, 200, 50)]
            np.testing.assert_allclose(together[::50], alone, rtol=1e-5)

    asyncio.run(main())


def test_a_stream_answers_each_request_and_survives_a_mistake(client):
    answers = []
    client.start_stream(lambda result, error: answers.append((result, error)))
    client.async_stream_infer("iris-onnx", [flowers()], request_id="a")
    client.async_stream_infer("nobody", [flowers()], request_id="b")
    client.async_stream_infer("iris-onnx", [flowers()], request_id="c")
    client.stop_stream()
    assert len(answers) == 3
    assert [error is None for _, error in answers] == [True, False, True]
    assert [result.get_response().id for result, error in answers if error is None] == ["a", "c"]
