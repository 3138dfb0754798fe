"""Models that yield: ``generate_stream`` as any HTTP client reads it, and decoupled streams by Triton's own client."""

import http.client
import json
import queue

import numpy as np
import pytest
import tritonclient.grpc as triton
from serve_support import EXAMPLES, Process, free_port

COUNTER = '''
from pathlib import Path

import numpy as np

import inferd

here = Path(__file__).parent


class Counter:
    """Counts to n, and leaves files that tell how far it came and that it was closed."""

    inputs = {"n": "INT64[1]"}
    outputs = {"i": "INT64[1]", "word": "BYTES[-1]"}

    def predict(self, n, parameters):
        name = parameters.get("name", "nobody")
        try:
            for i in range(int(n[0])):
                if parameters.get("refuse_at") == i:
                    raise inferd.InvalidInput("this is far enough")
                if parameters.get("fail_at") == i:
                    raise RuntimeError("a secret path: /etc/shadow")
                yield {"i": [i], "word": [f"w{i}", "é"]}
                (here / f"{name}.progress").write_text(str(i))
        finally:
            (here / f"{name}.closed").touch()


class Slow:
    """An asynchronous one, with several at a time."""

    inputs = {"n": "INT64[1]"}
    outputs = {"i": "INT64[1]"}

    async def predict(self, n):
        import asyncio

        for i in range(int(n[0])):
            await asyncio.sleep(0.001)
            yield np.array([i])


class Endless(Counter):
    async def predict(self, n, parameters):
        import asyncio

        try:
            while True:
                await asyncio.sleep(0.001)
                yield {"i": [0], "word": ["w"]}
        finally:
            (here / f"{parameters.get('name')}.closed").touch()
'''


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    for name in ("Counter", "Slow", "Endless"):
        (folder / f"{name.lower()}.py").write_text(COUNTER)
    port = free_port()
    paths = ["counter.py:Counter", "slow.py:Slow", "endless.py:Endless", EXAMPLES / "iris-onnx"]
    with Process(folder, "serve", *paths, "--grpc-port", port) as process:
        process.grpc_port, process.folder = port, folder
        yield process.wait_ready()


def ask(server, path, body, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    status, headers, answer = server.ask("POST", f"/v2/models/{path}", json.dumps(body), names)
    return status, headers, answer


def events(text):
    parts = text.decode().split("\n\n")
    assert parts[-1] == ""
    assert all(part.startswith("data: ") for part in parts[:-1])
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-1]]


def test_each_response_is_an_event(server):
    status, headers, answer = ask(server, "counter/generate_stream", {"id": "a", "n": 3})
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert headers["x-request-id"]
    assert events(answer) == [
        {"id": "a", "model_name": "counter", "model_version": "1", "i": i, "word": [f"w{i}", "é"]} for i in range(3)
    ]


def test_no_response_is_no_event_and_thousands_are_all_there_in_order(server):
    assert events(ask(server, "counter/generate_stream", {"n": 0})[2]) == []
    found = events(ask(server, "counter/versions/1/generate_stream", {"parameters": {"n": [5000]}})[2])
    assert [each["i"] for each in found] == list(range(5000))


def test_generate_answers_what_has_one_response(server):
    status, headers, answer = ask(server, "counter/generate", {"n": 1})
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(answer)["i"] == 0
    for n in (0, 2):
        status, _, answer = ask(server, "counter/generate", {"n": n})
        assert (status, "generate_stream" in json.loads(answer)["error"]) == (400, True)


def test_a_model_that_returns_answers_both_routes_once(server):
    row = {"x": [5.1, 3.5, 1.4, 0.2]}
    one = json.loads(ask(server, "iris-onnx/generate", row)[2])
    assert one["label"] == "setosa"
    assert len(one["probabilities"]) == 3
    assert events(ask(server, "iris-onnx/generate_stream", row)[2]) == [one]


def test_other_routes_answer_a_streaming_model_that_has_one_response(server):
    entry = {"name": "n", "datatype": "INT64", "shape": [1], "data": [1]}
    status, _, answer = ask(server, "counter/infer", {"inputs": [entry]})
    assert (status, json.loads(answer)["outputs"][0]["data"]) == (200, [0])
    status, _, answer = ask(server, "counter/infer", {"inputs": [{**entry, "data": [2]}]})
    assert (status, "generate_stream" in json.loads(answer)["error"]) == (400, True)


def test_an_error_midway_is_the_last_event_and_shows_nothing_of_the_server(server):
    found = events(ask(server, "counter/generate_stream", {"n": 5, "parameters": {"refuse_at": 2}})[2])
    assert [each.get("i") for each in found] == [0, 1, None]
    assert found[-1] == {"error": "this is far enough"}
    *_, last = events(ask(server, "counter/generate_stream", {"n": 5, "fail_at": 2})[2])
    assert "secret" not in last["error"]
    assert "failed" in last["error"]


def test_an_error_before_the_first_response_has_a_status(server):
    assert ask(server, "counter/generate_stream", {"n": 5, "refuse_at": 0})[0] == 400
    assert ask(server, "counter/generate_stream", {"n": 5, "fail_at": 0})[0] == 500
    assert ask(server, "nobody/generate_stream", {"n": 5})[0] == 404
    assert ask(server, "counter/versions/9/generate", {"n": 5})[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{",
        '{"n": "three"}',
        '{"n": [1, 2]}',
        '{"n": [[1]]}',
        '{"n": 1.5}',
        '{"n": null}',
        '{"n": 99999999999999999999}',
        "{}",
        '{"n": 1, "id": 5}',
        '{"n": 1, "parameters": []}',
        '{"n": 1, "parameters": {"n": 2}}',
        '{"n": 1, "timeout": -1}',
        '{"n": 1, "n": 2}',
        '{"n": ' + "[" * 300 + "1" + "]" * 300 + "}",
    ],
)
@pytest.mark.parametrize("route", ["generate", "generate_stream"])
def test_a_mistake_is_told_and_the_server_goes_on(server, route, body):
    status, _, answer = server.ask("POST", f"/v2/models/counter/{route}", body)
    assert (status, list(json.loads(answer))) == (400, ["error"])
    assert ask(server, "counter/generate", {"n": 1})[0] == 200


def test_a_deadline_ends_a_stream_and_stops_the_model(server):
    body = {"n": 1, "parameters": {"timeout": 200_000, "name": "late"}}
    *some, last = events(ask(server, "endless/generate_stream", body)[2])
    assert some
    assert "time ran out" in last["error"]
    server.wait_for((server.folder / "late.closed").exists)
    *some, last = events(ask(server, "endless/generate_stream", {"n": 1, "name": "later"}, Inferd_Timeout_Ms="200")[2])
    assert "time ran out" in last["error"]
    server.wait_for((server.folder / "later.closed").exists)


@pytest.mark.parametrize(("model", "name"), [("counter", "left"), ("endless", "left-async")])
def test_a_caller_who_leaves_stops_the_model(server, model, name):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(
        "POST", f"/v2/models/{model}/generate_stream", json.dumps({"n": 10**12, "parameters": {"name": name}})
    )
    response = connection.getresponse()
    assert response.readline().startswith(b"data: ")
    connection.close()
    response.close()
    server.wait_for((server.folder / f"{name}.closed").exists)
    assert ask(server, f"{model}/generate_stream", {"n": 0, "timeout": 50_000, "name": "after"})[0] == 200


def number(n):
    tensor = triton.InferInput("n", [1], "INT64")
    tensor.set_data_from_numpy(np.array([n], np.int64))
    return tensor


@pytest.fixture
def stream(server):
    """A client with an open stream, and the queue of what comes."""
    came = queue.Queue()
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        client.start_stream(lambda result, error: came.put((result, error)))
        yield client, came
        client.stop_stream(cancel_requests=True)


def take(came, count):
    return [came.get(timeout=30) for _ in range(count)]


def test_a_decoupled_stream_has_a_message_for_each_response(stream):
    client, came = stream
    client.async_stream_infer("counter", [number(3)], request_id="a")
    answers = take(came, 3)
    assert all(error is None for _, error in answers)
    assert [int(result.as_numpy("i")[0]) for result, _ in answers] == [0, 1, 2]
    assert [result.get_response().id for result, _ in answers] == ["a"] * 3
    assert answers[0][0].as_numpy("word").tolist() == [b"w0", "é".encode()]


def test_the_end_is_told_to_those_who_ask(stream):
    client, came = stream
    for n in (2, 0):
        client.async_stream_infer("counter", [number(n)], enable_empty_final_response=True)
        answers = [result.get_response() for result, _ in take(came, n + 1)]
        flags = [answer.parameters["triton_final_response"].bool_param for answer in answers]
        assert flags == [False] * n + [True]
        assert not answers[-1].outputs


def test_an_error_midway_is_told_with_its_id_and_the_stream_goes_on(stream):
    client, came = stream
    client.async_stream_infer("counter", [number(5)], request_id="b", parameters={"refuse_at": 1})
    (first, none), (_, error) = take(came, 2)
    assert none is None
    assert int(first.as_numpy("i")[0]) == 0
    assert "far enough" in str(error)
    client.async_stream_infer("nobody", [number(1)])
    assert "nobody" in str(take(came, 1)[0][1])
    client.async_stream_infer("counter", [number(1)], request_id="c")
    assert take(came, 1)[0][0].get_response().id == "c"


def test_requests_of_one_stream_run_side_by_side(stream):
    client, came = stream
    for each in range(8):
        client.async_stream_infer("slow", [number(20)], request_id=str(each))
    by_request = {}
    for result, error in take(came, 160):
        assert error is None
        by_request.setdefault(result.get_response().id, []).append(int(result.as_numpy("i")[0]))
    assert by_request == {str(each): list(range(20)) for each in range(8)}


def test_a_deadline_ends_the_responses_of_a_request(stream):
    client, came = stream
    client.async_stream_infer("endless", [number(1)], parameters={"name": "late-grpc"}, timeout=200_000)
    error = None
    while error is None:
        _, error = came.get(timeout=30)
    assert "time ran out" in str(error)


@pytest.mark.parametrize(("model", "name"), [("counter", "left-grpc"), ("endless", "left-grpc-async")])
def test_a_stream_that_is_cancelled_stops_its_models(server, model, name):
    came = queue.Queue()
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        client.start_stream(lambda result, error: came.put((result, error)))
        client.async_stream_infer(model, [number(10**12)], parameters={"name": name})
        take(came, 1)
        client.stop_stream(cancel_requests=True)
    server.wait_for((server.folder / f"{name}.closed").exists)


def test_the_configuration_says_that_a_model_yields(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        assert client.get_model_config("counter").config.model_transaction_policy.decoupled
        assert not client.get_model_config("iris-onnx").config.model_transaction_policy.decoupled
    assert server.json("/v2/models/counter/config")["model_transaction_policy"] == {"decoupled": True}


def test_streams_that_are_over_are_counted_and_hold_nothing(server):
    ask(server, "counter/generate_stream", {"n": 2})
    (statistics,) = server.json("/v2/models/counter/stats")["model_stats"]
    assert statistics["inference_stats"]["success"]["count"] >= 1
    assert statistics["inference_stats"]["fail"]["count"] >= 1
