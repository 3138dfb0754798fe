"""What KServe's own clients do, unmodified; run by ``test_kserve_client.py`` in the environment that has them.

Usage: kserve_calls.py HTTP_PORT GRPC_PORT. Prints a JSON object: each call's name, and "" or what went wrong.
"""

import asyncio
import json
import sys
import traceback

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)
LABELS = ["setosa", "virginica"]
URL = f"http://127.0.0.1:{sys.argv[1]}"
GRPC = f"127.0.0.1:{sys.argv[2]}"


def rest(protocol):
    return InferenceRESTClient(RESTConfig(protocol=protocol))


def flowers(binary, **options):
    tensor = InferInput("x", list(ROWS.shape), "FP32")
    tensor.set_data_from_numpy(ROWS, binary_data=binary)
    return InferRequest("iris-onnx", [tensor], request_id="flowers", **options)


def check(answer):
    assert (answer.id, answer.model_name) == ("flowers", "iris-onnx"), answer
    found = {output.name: output.as_numpy() for output in answer.outputs}
    labels = [each.decode() if isinstance(each, bytes) else each for each in found["label"].tolist()]
    assert labels == LABELS, found
    assert found["probabilities"].shape == (2, 3), found
    assert np.allclose(found["probabilities"].sum(axis=1), 1, atol=1e-5), found


async def failure(call):
    """What ``call`` raises."""
    try:
        await call
    except (httpx.HTTPStatusError, grpc.RpcError) as error:
        return error
    raise AssertionError("it was not refused")


async def refused(call, status):
    error = await failure(call)
    assert error.response.status_code == status, error
    assert json.loads(error.response.content)["error"] in str(error), error


async def v1_predicts():
    async with rest("v1") as client:
        answer = await client.infer(URL, {"instances": ROWS.tolist()}, model_name="iris-onnx")
        assert [row["label"] for row in answer["predictions"]] == LABELS, answer
        await refused(client.infer(URL, {"instances": [[1]]}, model_name="iris-onnx"), 400)
        await refused(client.infer(URL, {"instances": [[1]]}, model_name="nobody"), 404)
        await refused(client.explain(URL, "iris-onnx", {"instances": ROWS.tolist()}), 501)


async def v1_is_ready():
    async with rest("v1") as client:
        assert await client.is_server_live(URL) is True
        assert await client.is_model_ready(URL, "iris-onnx") is True
        await refused(client.is_model_ready(URL, "nobody"), 404)


async def v2_is_ready():
    async with rest("v2") as client:
        assert await client.is_server_live(URL) is True
        assert await client.is_server_ready(URL) is True
        assert await client.is_model_ready(URL, "iris-onnx") is True
        assert await client.is_model_ready(URL, "nobody") is False


async def v2_infers(binary):
    headers = {}
    async with rest("v2") as client:
        request = flowers(binary, parameters={"binary_data_output": binary})
        check(await client.infer(URL, request, model_name="iris-onnx", response_headers=headers))
    assert headers["content-type"] == f"application/{'octet-stream' if binary else 'json'}", headers


async def v2_infers_in_json():
    await v2_infers(False)


async def v2_infers_in_binary():
    await v2_infers(True)


async def v2_gets_the_outputs_it_asks_for():
    async with rest("v2") as client:
        request = flowers(True, request_outputs=[RequestedOutput("probabilities", {"binary_data": True})])
        answer = await client.infer(URL, request, model_name="iris-onnx")
        assert [output.name for output in answer.outputs] == ["probabilities"], answer


async def v2_is_told_its_mistakes():
    async with rest("v2") as client:
        await refused(client.infer(URL, flowers(False), model_name="nobody"), 404)
        await refused(client.infer(URL, flowers(False), model_name="topic"), 400)
        tensor = InferInput("x", [1, 5], "FP32", data=[1.0] * 5)
        await refused(client.infer(URL, InferRequest("iris-onnx", [tensor]), model_name="iris-onnx"), 400)


async def grpc_is_ready():
    async with InferenceGRPCClient(GRPC) as client:
        assert await client.is_server_live() is True
        assert await client.is_server_ready() is True
        assert await client.is_model_ready("iris-onnx") is True
        assert await client.is_model_ready("nobody") is False


async def grpc_infers_with_raw_contents():
    async with InferenceGRPCClient(GRPC) as client:
        check(await client.infer(flowers(True)))


async def grpc_infers_with_typed_contents():
    async with InferenceGRPCClient(GRPC) as client:
        check(await client.infer(flowers(False), timeout=30))


async def grpc_is_told_its_mistakes():
    async with InferenceGRPCClient(GRPC) as client:
        for request, code in (
            (InferRequest("nobody", flowers(True).inputs), grpc.StatusCode.NOT_FOUND),
            (InferRequest("topic", flowers(True).inputs), grpc.StatusCode.INVALID_ARGUMENT),
        ):
            error = await failure(client.infer(request))
            assert error.code() is code, error


async def main():
    found = {}
    for name, call in list(globals().items()):
        if name.startswith(("v1_", "v2_", "grpc_")) and name != "v2_infers":
            try:
                await call()
                found[name] = ""
            except Exception:
                found[name] = traceback.format_exc()
    print(json.dumps(found))


asyncio.run(main())
