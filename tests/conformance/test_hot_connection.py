"""The hot front's connections at their edges; where uvicorn's own front behaves otherwise, so not part of the shared
suite."""

import threading

import pytest
from fronts_support import Double, Served, predict, request


@pytest.fixture(scope="module")
def served():
    server = Served(Double(), max_header_kb=16)
    yield server
    server.stop()


def test_garbage_after_a_request_is_refused_after_that_request_is_answered(served):
    wire = served.wire().send(predict([[1, 2]]) + b"\x00\x01 garbage\r\n\r\n")
    assert wire.read().json == {"predictions": [[2, 4]]}
    assert wire.read().status == 400
    assert wire.at_end()


def test_thousands_of_refused_requests_in_one_go_are_all_answered(served):
    count = 3000
    wire = served.wire()
    sender = threading.Thread(target=wire.send, args=[request("/predict", b"{}") * count])
    sender.start()
    assert {wire.read().status for _ in range(count)} == {422}
    sender.join(20)
    assert wire.send(predict([[1, 2]])).read().status == 200


def test_thousands_of_predictions_in_one_go_are_answered_in_order(served):
    count = 2000
    wire = served.wire()
    sender = threading.Thread(target=wire.send, args=[b"".join(predict([[index, 1]]) for index in range(count))])
    sender.start()
    answers = [wire.read().json["predictions"][0][0] for _ in range(count)]
    sender.join(20)
    assert answers == [2 * index for index in range(count)]


def test_headers_that_come_in_many_pieces_are_counted_for_each_request_anew(served):
    wire = served.wire()
    raw = predict([[1, 2]], "X-Filler: " + "x" * 6000)
    for _ in range(5):
        wire.send(raw[:3000])
        served.get("/health")
        assert wire.send(raw[3000:]).read().status == 200


def test_a_large_body_before_split_headers_does_not_count_as_headers(served):
    rows = [[index, index] for index in range(8000)]
    second = predict([[1, 2]])
    wire = served.wire().send(predict(rows) + second[:20])
    assert len(wire.read().json["predictions"]) == 8000
    assert wire.send(second[20:]).read().json == {"predictions": [[2, 4]]}


def test_a_header_that_never_ends_is_refused(served):
    wire = served.wire().send(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX-Endless: ")
    try:
        for _ in range(200):
            wire.send(b"x" * 4096)
            served.get("/health")
    except OSError:
        pass
    assert wire.read().status == 431
