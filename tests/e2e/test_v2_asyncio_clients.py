"""All that Triton's asyncio clients can ask, over HTTP and gRPC, and how its other clients ask without waiting."""

import asyncio
import shutil
import threading

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
import tritonclient.utils.shared_memory as shm
from serve_support import EXAMPLES, Process, free_port
from tritonclient.utils import InferenceServerException

ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)
LABELS = [b"setosa", b"virginica"]
NUMBER = 20


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("asyncio"), free_port()
    shutil.copytree(EXAMPLES / "iris-onnx", folder / "models" / "iris-onnx")
    flags = ("--model-control", "--allow-shared-memory", "--grpc-port", port)
    with Process(folder, "serve", "models", *flags) as process:
        process.grpc_port = port
        yield process.wait_ready()


def flowers(module, rows=ROWS):
    tensor = module.InferInput("x", rows.shape, "FP32")
    tensor.set_data_from_numpy(rows)
    return tensor


async def use(client, module, names):
    """Each call of the client once; ``names`` reads the names in an index."""
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.get_server_metadata()
    assert await client.get_model_metadata("iris-onnx")
    assert await client.get_model_config("iris-onnx")
    assert names(await client.get_model_repository_index()) == ["iris-onnx"]
    await client.unload_model("iris-onnx")
    assert not await client.is_model_ready("iris-onnx")
    await client.load_model("iris-onnx", config='{"max_batch_size": 8}')
    assert await client.is_model_ready("iris-onnx", "1")
    answer = await client.infer("iris-onnx", [flowers(module)], request_id="a")
    assert answer.as_numpy("label").tolist() == LABELS
    assert await client.get_inference_statistics("iris-onnx")
    assert await client.get_log_settings()
    await client.update_log_settings({"log_verbose_level": 0})
    assert await client.get_trace_settings()
    with pytest.raises(InferenceServerException, match="--otel"):
        await client.update_trace_settings(settings={"trace_rate": "5"})
    await use_shared_memory(client, module)
    with pytest.raises(InferenceServerException, match="use system shared memory"):
        await client.register_cuda_shared_memory("gpu", b"aGFuZGxl", 0, 64)
    with pytest.raises(InferenceServerException, match="no model named"):
        await client.infer("nobody", [flowers(module)])


async def use_shared_memory(client, module):
    key = f"/inferd-{module.__name__}"
    region = shm.create_shared_memory_region("rows", key, ROWS.nbytes)
    try:
        shm.set_shared_memory_region(region, [ROWS])
        await client.register_system_shared_memory("rows", key, ROWS.nbytes)
        assert await client.get_system_shared_memory_status("rows")
        tensor = module.InferInput("x", ROWS.shape, "FP32")
        tensor.set_shared_memory("rows", ROWS.nbytes)
        assert (await client.infer("iris-onnx", [tensor])).as_numpy("label").tolist() == LABELS
        await client.unregister_system_shared_memory("rows")
    finally:
        shm.destroy_shared_memory_region(region)


def test_all_calls_over_http(server):
    async def main():
        async with tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            await use(client, tritonclient.http.aio, lambda index: [each["name"] for each in index])

    asyncio.run(main())


def test_all_calls_over_grpc(server):
    async def main():
        async with tritonclient.grpc.aio.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
            await use(client, tritonclient.grpc.aio, lambda index: [each.name for each in index.models])

    asyncio.run(main())


def test_a_stream_of_requests_is_answered_in_order_with_errors_in_their_place(server):
    module = tritonclient.grpc.aio

    async def requests():
        for number in range(NUMBER):
            model = "nobody" if number == 5 else "iris-onnx"
            yield {"model_name": model, "inputs": [flowers(module)], "request_id": str(number)}

    async def main():
        async with module.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
            return [each async for each in client.stream_infer(requests())]

    answers = asyncio.run(main())
    assert ["failed" if error else answer.get_response().id for answer, error in answers] == [
        "failed" if number == 5 else str(number) for number in range(NUMBER)
    ]


def test_requests_are_sent_ahead_over_http(server):
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4) as client:
        asked = [
            client.async_infer("iris-onnx", [flowers(tritonclient.http)], request_id=str(number))
            for number in range(NUMBER)
        ]
        assert [each.get_result().get_response()["id"] for each in asked] == list(map(str, range(NUMBER)))


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_requests_are_sent_ahead_over_grpc(server, compression):
    found, done = {}, threading.Event()

    def answered(number, result, error):
        found[number] = error or result.as_numpy("label").tolist()
        if len(found) == NUMBER:
            done.set()

    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        for number in range(NUMBER):
            client.async_infer(
                "iris-onnx",
                [flowers(tritonclient.grpc)],
                lambda result, error, number=number: answered(number, result, error),
                compression_algorithm=compression,
            )
        assert done.wait(30)
        client.async_infer("iris-onnx", [flowers(tritonclient.grpc)], lambda result, error: None).cancel()
        assert client.is_model_ready("iris-onnx")
    assert found == dict.fromkeys(range(NUMBER), LABELS)


def test_a_body_made_by_the_client_may_be_sent_by_any_other(server):
    client = tritonclient.http.InferenceServerClient
    wanted = [tritonclient.http.InferRequestedOutput("label")]
    body, length = client.generate_request_body([flowers(tritonclient.http)], outputs=wanted)
    headers = {"Inference-Header-Content-Length": str(length)}
    status, answered, answer = server.ask("POST", "/v2/models/iris-onnx/infer", body, headers)
    assert status == 200
    read = client.parse_response_body(answer, header_length=int(answered["inference-header-content-length"]))
    assert read.as_numpy("label").tolist() == LABELS
