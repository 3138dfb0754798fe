"""What every front owes its callers: one suite, over the hot front and the ASGI front."""

import json
import socket
import threading

import numpy as np
import pytest
from fronts_support import Double, Served, eventually, predict, request


@pytest.fixture(scope="module", params=["hot", "asgi"])
def served(request):
    server = Served(Double(), front=request.param, max_body_mb=1.0, max_header_kb=16, max_batch_size=64)
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def open_gate(served):
    served.model.gate.set()
    served.model.entered.clear()
    yield
    served.model.gate.set()


def occupy(served):
    """Keep the model busy until the gate opens; returns the wire that waits for its answer."""
    served.model.gate.clear()
    wire = served.wire().send(predict([[0, 0]]))
    assert served.model.entered.wait(10)
    return wire


def test_an_answer_names_who_gave_it_and_how_long_it_took(served):
    reply = served.predict([[1, 2], [3, 4]])
    assert reply.status == 200
    assert reply.json == {"predictions": [[2, 4], [6, 8]]}
    assert reply.headers["inferd-model"] == "double"
    assert reply.headers["inferd-model-version"] == "1"
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["server"] == "inferd"
    assert [part.split(";")[0] for part in reply.headers["server-timing"].split(", ")] == [
        "queue",
        "batch",
        "compute",
        "encode",
    ]


def test_the_callers_request_id_is_echoed_and_a_bad_one_replaced(served):
    assert served.predict([[1, 2]], "X-Request-Id: mine-1").headers["x-request-id"] == "mine-1"
    for bad in ("", "with space", "x" * 129, "caf\u00e9"):
        made = served.predict([[1, 2]], f"X-Request-Id: {bad}").headers["x-request-id"]
        assert made not in ("", bad)
        assert len(made) <= 128


def test_cold_routes_carry_a_request_id_too(served):
    assert served.get("/health", "X-Request-Id: cold").headers["x-request-id"] == "cold"
    assert served.get("/nowhere", "X-Request-Id: cold").json["request_id"] == "cold"


def test_requests_of_one_connection_are_answered_in_order_hot_and_cold_mixed(served):
    wire = served.wire()
    wire.send(
        predict([[1, 1]])
        + request("/health", method="GET")
        + predict([[2, 2]])
        + request("/nowhere", b"{}")
        + predict([[3, 3]], path="/models/double/predict?trace=1")
        + request("/health", method="GET")
    )
    replies = [wire.read() for _ in range(6)]
    assert [reply.status for reply in replies] == [200, 200, 200, 404, 200, 200]
    assert [replies[index].json["predictions"] for index in (0, 2, 4)] == [[[2, 2]], [[4, 4]], [[6, 6]]]


def test_a_pipelined_request_waits_for_the_one_before_it(served):
    wire = occupy(served)
    wire.send(request("/health", method="GET"))
    assert served.get("/health").status == 200
    wire.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        wire.socket.recv(1)
    wire.socket.settimeout(20)
    wire.file = wire.socket.makefile("rb")
    served.model.gate.set()
    assert [wire.read().json, wire.read().json] == [{"predictions": [[0, 0]]}, {"status": "ok"}]


def test_the_same_head_with_other_bodies_gets_each_its_own_answer(served):
    """The hot front skips the parser for a head it has read before."""
    wire = served.wire()
    for value in [*range(10, 40), 5, 7]:
        assert wire.send(predict([[value, value]])).read().json == {"predictions": [[2 * value] * 2]}


def test_after_a_repeated_head_any_other_request_is_read_as_it_is(served):
    wire = served.wire()
    for _ in range(3):
        assert wire.send(predict([[1, 2]])).read().status == 200
    assert wire.send(request("/health", method="GET")).read().json == {"status": "ok"}
    assert wire.send(predict([[1, 2]])[:30]).send(predict([[1, 2]])[30:]).read().status == 200
    assert wire.send(predict([[1, 2]]), predict([[3, 4]])).read().json == {"predictions": [[2, 4]]}
    assert wire.read().json == {"predictions": [[6, 8]]}
    assert wire.send(predict([[1, 2]]) + predict([[3, 4]])).read().json == {"predictions": [[2, 4]]}
    assert wire.read().json == {"predictions": [[6, 8]]}
    head, _, body = predict([[1, 2]]).partition(b"\r\n\r\n")
    assert wire.send(head + b"\r\nConnection: close\r\n\r\n" + body).read().headers["connection"] == "close"
    assert wire.at_end()


def test_a_body_may_come_byte_by_byte(served):
    raw = predict([[1, 2]])
    wire = served.wire()
    for index in range(len(raw)):
        wire.send(raw[index : index + 1])
    assert wire.read().json == {"predictions": [[2, 4]]}


def test_a_chunked_body_is_joined(served):
    body = json.dumps({"instances": [[1, 2]]}).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:8], body[8:])) + b"0\r\n\r\n"
    wire = served.wire().send(request("/predict", headers=["Transfer-Encoding: chunked"]), chunks)
    assert wire.read().json == {"predictions": [[2, 4]]}
    assert wire.send(predict([[3, 4]])).read().status == 200


def test_a_large_body_of_many_pieces_arrives_whole(served):
    rows = np.arange(40_000, dtype=np.float32).reshape(-1, 2)
    reply = served.predict(rows.tolist())
    assert reply.status == 200
    np.testing.assert_array_equal(np.array(reply.json["predictions"], np.float32), rows * 2)


def test_expect_continue_is_answered_before_the_body(served):
    body = json.dumps({"instances": [[1, 2]]}).encode()
    wire = served.wire().send(request("/predict", headers=["Expect: 100-continue", f"Content-Length: {len(body)}"]))
    assert wire.read().status == 100
    assert wire.send(body).read().json == {"predictions": [[2, 4]]}


def test_a_body_over_the_limit_is_refused_before_it_is_sent(served):
    headers = ["Expect: 100-continue", f"Content-Length: {2 << 20}"]
    reply = served.wire().send(request("/predict", headers=headers)).read()
    assert reply.status == 413
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json["expected"] == f"at most {1 << 20} bytes"


def test_a_chunked_body_over_the_limit_is_refused_while_it_comes(served):
    wire = served.wire().send(request("/predict", headers=["Transfer-Encoding: chunked"]))
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    try:
        for _ in range(40):
            wire.send(chunk)
    except OSError:
        pass
    assert wire.read().status == 413


def test_a_body_over_the_limit_on_a_cold_route_is_refused(served):
    reply = served.wire().send(request("/models/nobody/predict", headers=[f"Content-Length: {2 << 20}"])).read()
    assert reply.status == 413


def test_a_server_that_refused_a_body_still_serves(served):
    served.wire().send(request("/predict", headers=[f"Content-Length: {2 << 20}"])).read()
    assert served.predict([[1, 2]]).status == 200


def test_connection_close_is_kept(served):
    wire = served.wire().send(predict([[1, 2]], "Connection: close"))
    assert wire.read().headers["connection"] == "close"
    assert wire.at_end()


def test_http_1_0_is_answered_and_closed(served):
    body = json.dumps({"instances": [[1, 2]]}).encode()
    wire = served.wire().send(b"POST /predict HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    assert wire.read().json == {"predictions": [[2, 4]]}
    assert wire.at_end()


def test_what_is_not_http_gets_a_400_and_the_end(served):
    wire = served.wire().send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 nonsense\r\n\r\n")
    assert wire.read().status == 400
    assert served.predict([[1, 2]]).status == 200


def test_an_upgrade_nobody_offers_is_ignored(served):
    wire = served.wire().send(request("/health", method="GET", headers=["Connection: Upgrade", "Upgrade: h2c"]))
    assert wire.read().json == {"status": "ok"}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_another_method_on_a_hot_path_is_405_and_says_what_is_allowed(served, method):
    reply = served.ask(request("/predict", method=method))
    assert reply.status == 405
    assert reply.headers["allow"] == "POST"
    assert reply.headers["content-type"] == "application/problem+json"


def test_unknown_paths_models_and_versions_are_404(served):
    for path in ("/predicts", "/models/nobody/predict", "/models/double/versions/9/predict"):
        reply = served.ask(predict([[1, 2]], path=path))
        assert (reply.status, reply.json["code"]) == (404, "NOT_FOUND")


def test_a_percent_encoded_path_finds_its_model(served):
    assert served.ask(predict([[1, 2]], path="/models/doubl%65/predict")).json == {"predictions": [[2, 4]]}


def test_a_caller_who_leaves_the_queue_is_never_executed(served):
    first = occupy(served)
    executed = len(served.model.batches)
    gone = served.wire().send(predict([[77, 77]]))
    eventually(lambda: served.get("/model/info").json["statistics"]["queue_rows"] == 1)
    gone.close()
    eventually(lambda: served.get("/model/info").json["statistics"]["queue_rows"] == 0)
    served.model.gate.set()
    assert first.read().status == 200
    assert served.predict([[1, 1]]).status == 200
    assert not any((batch == 77).any() for batch in served.model.batches[executed:])


def test_a_caller_who_leaves_mid_body_leaves_nothing_behind(served):
    served.wire().send(predict([[1, 2]])[:-5]).close()
    eventually(lambda: served.get("/model/info").json["statistics"]["inflight"] == 1)
    assert served.predict([[1, 2]]).status == 200


@pytest.mark.parametrize("path", ["/v2/repository/index", "/v2/models/double/generate_stream"])
def test_a_caller_who_leaves_mid_body_of_a_cold_route_is_no_defect(served, path, caplog):
    served.wire().send(request(path, b'{"x": [1, 2]}')[:-5]).close()
    served.predict([[1, 2]])
    eventually(lambda: served.get("/model/info").json["statistics"]["inflight"] == 1)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_an_expired_request_is_504_though_the_model_is_busy(served):
    first = occupy(served)
    late = served.predict([[5, 5]], "Inferd-Timeout-Ms: 30")
    assert (late.status, late.json["code"]) == (504, "DEADLINE_EXCEEDED")
    served.model.gate.set()
    assert first.read().status == 200


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "1e12"])
def test_a_timeout_that_makes_no_sense_is_refused(served, value):
    assert served.predict([[1, 2]], f"Inferd-Timeout-Ms: {value}").status == 422


def test_refused_rows_are_the_callers_error_and_a_crash_tells_nothing(served):
    refused = served.predict([[-1, 0]])
    assert (refused.status, refused.json["detail"]) == (422, "minus one is not for this model")
    crashed = served.predict([[-2, 0]])
    assert crashed.status == 500
    assert b"shadow" not in crashed.body
    assert b"Traceback" not in crashed.body


def test_one_bad_caller_in_a_batch_does_not_touch_the_others(served):
    first = occupy(served)
    values = [1, 2, -1, 3, -2, 4]
    wires = [served.wire().send(predict([[value, 1]])) for value in values]
    eventually(lambda: served.get("/model/info").json["statistics"]["queue_rows"] == len(values))
    served.model.gate.set()
    assert [wire.read().status for wire in wires] == [200, 200, 422, 200, 500, 200]
    assert first.read().status == 200


def test_an_answer_nobody_reads_holds_up_only_its_own_connection(served):
    rows = np.zeros((50_000, 2), np.float32).tolist()
    wire = served.wire()
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
    sender = threading.Thread(target=wire.send, args=[predict(rows) * 6])
    sender.start()
    for _ in range(5):
        assert served.predict([[1, 2]]).status == 200
    replies = [wire.read() for _ in range(6)]
    assert [(reply.status, reply.body[:300]) for reply in replies if reply.status != 200] == []
    assert [len(reply.json["predictions"]) for reply in replies] == [50_000] * 6
    sender.join(20)


def test_many_callers_get_each_their_own_answer(served):
    wrong = []

    def call(caller):
        wire = served.wire()
        for turn in range(40):
            value = caller * 1000 + turn
            if wire.send(predict([[value, turn]])).read().json != {"predictions": [[2 * value, 2 * turn]]}:
                wrong.append(value)

    threads = [threading.Thread(target=call, args=[caller]) for caller in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert served.get("/model/info").json["statistics"]["inflight"] == 1


def test_headers_over_the_limit_are_431(served):
    lines = [f"X-Filler-{index}: {'x' * 1000}" for index in range(40)]
    assert served.ask(predict([[1, 2]], *lines)).status == 431
    assert served.predict([[1, 2]]).status == 200


def test_probes_answer_while_the_model_is_busy(served):
    occupy(served)
    assert served.get("/health").status == 200
    assert served.get("/ready").json == {"ready": True, "blockers": []}
    assert served.get("/metrics").status == 200


def test_empty_instances_are_an_empty_answer(served):
    assert served.predict([]).json == {"predictions": []}


def test_a_request_larger_than_a_batch_is_split_and_joined(served):
    rows = [[index, index] for index in range(500)]
    assert served.predict(rows).json == {"predictions": [[2 * index] * 2 for index in range(500)]}
    assert max(map(len, served.model.batches)) <= 64


def test_npy_in_and_out(served):
    import io

    buffer = io.BytesIO()
    np.save(buffer, np.float32([[1, 2]]))
    raw = request(
        "/predict", buffer.getvalue(), headers=["Content-Type: application/x-npy", "Accept: application/x-npy"]
    )
    reply = served.ask(raw)
    assert reply.headers["content-type"] == "application/x-npy"
    np.testing.assert_array_equal(np.load(io.BytesIO(reply.body)), [[2, 4]])


def test_a_foreign_host_is_refused_on_loopback(served):
    raw = predict([[1, 2]]).replace(b"Host: localhost", b"Host: evil.example")
    assert served.ask(raw).status == 400
