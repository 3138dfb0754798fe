"""What Triton's own clients take for granted, and what servers get wrong."""

import asyncio
import json
import shutil

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
import tritonclient.http.aio
from serve_support import EXAMPLES, Process, free_port

WIDE = """
import numpy as np

class Wide:
    inputs = {"x": "FP32[-1, 1000]"}
    outputs = {"y": "FP32[-1, 1000]"}
    batchable = True

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * 2
"""
WHOLE = """
import numpy as np

class Whole:
    inputs = {"signed": "INT64[-1, 2]", "unsigned": "UINT64[-1, 2]"}
    outputs = {"signed_out": "INT64[-1, 2]", "unsigned_out": "UINT64[-1, 2]"}
    batchable = True

    def predict(self, signed: np.ndarray, unsigned: np.ndarray):
        return {"signed_out": signed, "unsigned_out": unsigned}
"""
READ = (
    "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/iris-onnx", "/v2/models/iris-onnx/versions/1",
    "/v2/models/iris-onnx/ready", "/v2/models/iris-onnx/config", "/v2/models/iris-onnx/stats", "/v2/models/stats",
    "/v2/systemsharedmemory/status", "/v2/logging", "/v2/trace/setting", "/v2/models/iris-onnx/trace/setting",
    "/v1/models", "/v1/models/iris-onnx", "/v1/models/iris-onnx/metadata", "/",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("clients"), free_port()
    for version in ("1", "2"):
        shutil.copytree(EXAMPLES / "iris-onnx" / "1", folder / "models" / "iris-onnx" / version)
    (folder / "wide.py").write_text(WIDE)
    (folder / "whole.py").write_text(WHOLE)
    flags = ("--version-policy", "all", "--grpc-port", port, "--allow-shared-memory")
    with Process(folder, "serve", "models", "wide.py:Wide", "whole.py:Whole", *flags) as process:
        process.grpc_port = port
        yield process.wait_ready()


@pytest.fixture
def http(server):
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


@pytest.fixture
def grpc(server):
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        yield client


def tensor(module, name, array, datatype, **options):
    made = module.InferInput(name, array.shape, datatype)
    made.set_data_from_numpy(array, **options)
    return made


def nulls(value):
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(map(nulls, inside))


@pytest.mark.parametrize("path", READ)
def test_a_member_without_a_value_is_left_out(server, path):
    status, headers, body = server.ask("GET", path)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert not nulls(json.loads(body))


def test_an_answer_to_inference_has_no_nulls(server):
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    assert not nulls(json.loads(server.ask("POST", "/v2/models/iris-onnx/infer", json.dumps(body))[2]))
    assert not nulls(json.loads(server.ask("POST", "/v2/repository/index")[2]))


ROWS = np.zeros((100, 1000), np.float32)


@pytest.mark.parametrize("binary", [None, True, False])
@pytest.mark.parametrize("encoding", [None, "gzip", "deflate"])
def test_the_length_of_the_json_is_that_before_compression(http, encoding, binary):
    outputs = None if binary is None else [tritonclient.http.InferRequestedOutput("y", binary_data=binary)]
    answer = http.infer(
        "wide",
        [tensor(tritonclient.http, "x", ROWS, "FP32", binary_data=binary is not False)],
        outputs=outputs,
        request_compression_algorithm=encoding,
        response_compression_algorithm=encoding,
    )
    assert np.array_equal(answer.as_numpy("y"), ROWS)


def test_the_asyncio_client_which_asks_for_gzip_by_itself_reads_the_answer(server):
    async def ask():
        module = tritonclient.http.aio
        async with module.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            for outputs in (None, [module.InferRequestedOutput("y", binary_data=False)]):
                answer = await client.infer("wide", [tensor(module, "x", ROWS, "FP32")], outputs=outputs)
                assert np.array_equal(answer.as_numpy("y"), ROWS)

    asyncio.run(ask())


@pytest.mark.parametrize("outputs", [None, [{"name": "y"}], [{"name": "y", "parameters": {}}]])
def test_binary_answers_may_be_asked_for_once_for_all_outputs_named_or_not(server, outputs):
    body = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1000], "data": [0] * 1000}],
        "parameters": {"binary_data_output": True},
        **({"outputs": outputs} if outputs else {}),
    }
    status, headers, answer = server.ask("POST", "/v2/models/wide/infer", json.dumps(body))
    assert (status, len(answer) - int(headers["inference-header-content-length"])) == (200, 4000)


def test_integers_of_64_bits_are_exact_in_json(http):
    signed = np.array([[2**63 - 1, -(2**63)]])
    unsigned = np.array([[2**64 - 1, 2**53 + 1]], np.uint64)
    module = tritonclient.http
    inputs = [
        tensor(module, "signed", signed, "INT64", binary_data=False),
        tensor(module, "unsigned", unsigned, "UINT64", binary_data=False),
    ]
    outputs = [module.InferRequestedOutput(name, binary_data=False) for name in ("signed_out", "unsigned_out")]
    answer = http.infer("whole", inputs, outputs=outputs)
    assert answer.as_numpy("signed_out").tolist() == signed.tolist()
    assert answer.as_numpy("unsigned_out").tolist() == unsigned.tolist()


def test_statistics_count_rows_and_list_every_version_when_none_is_named(http, grpc):
    def counts():
        of_http = http.get_inference_statistics("iris-onnx")["model_stats"]
        of_grpc = grpc.get_inference_statistics("iris-onnx").model_stats
        found = {each["version"]: (each["inference_count"], each["execution_count"]) for each in of_http}
        assert found == {each.version: (each.inference_count, each.execution_count) for each in of_grpc}
        return found

    before = counts()
    assert sorted(before) == ["1", "2"]
    for client, module in ((http, tritonclient.http), (grpc, tritonclient.grpc)):
        client.infer("iris-onnx", [tensor(module, "x", np.zeros((3, 4), np.float32), "FP32")], model_version="1")
    after = counts()
    assert after["2"] == before["2"]
    assert [now - then for now, then in zip(after["1"], before["1"], strict=True)] == [6, 2]
    (one,) = http.get_inference_statistics("iris-onnx", "1")["model_stats"]
    assert one["last_inference"] > 1_600_000_000_000  # milliseconds


def test_a_message_larger_than_grpcs_usual_four_mebibytes_goes_both_ways(grpc):
    rows = np.ones((5000, 1000), np.float32)
    answer = grpc.infer("wide", [tensor(tritonclient.grpc, "x", rows, "FP32")])
    assert np.array_equal(answer.as_numpy("y"), rows * 2)


def test_parameters_of_sequences_and_schedules_are_taken(http, grpc):
    options = {"sequence_id": 7, "sequence_start": True, "sequence_end": True, "priority": 3, "timeout": 10_000_000}
    for client, module in ((http, tritonclient.http), (grpc, tritonclient.grpc)):
        client.infer("wide", [tensor(module, "x", ROWS, "FP32")], **options)


def test_an_error_in_a_stream_has_its_requests_id_and_the_stream_goes_on(grpc):
    found = []
    grpc.start_stream(lambda result, error: found.append((result, error)))
    grpc.async_stream_infer("nobody", [tensor(tritonclient.grpc, "x", ROWS, "FP32")], request_id="a")
    grpc.async_stream_infer("wide", [tensor(tritonclient.grpc, "x", ROWS, "FP32")], request_id="b")
    grpc.stop_stream()
    (_, error), (answer, nothing) = found
    assert "no model named 'nobody'" in str(error)
    assert nothing is None
    assert answer.get_response().id == "b"
