"""Signals, hangs, stalls and overload on a real process: nothing accepted is lost, nothing hangs."""

import http.client
import json
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from serve_support import Process, gated_model


class Caller(threading.Thread):
    """Asks in a closed loop on kept connections until the server is gone, and keeps count of what it got."""

    def __init__(self, port, rows):
        super().__init__(daemon=True)
        self.port = port
        self.body = json.dumps({"instances": rows})
        self.expected = None
        self.answers = 0
        self.broken = []

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while True:
            try:
                connection.request("POST", "/predict", self.body, {"Content-Type": "application/json"})
            except OSError:
                return  # nothing was accepted
            try:
                response = connection.getresponse()
            except (ConnectionError, http.client.RemoteDisconnected):
                return  # the connection ended before a byte of an answer: nothing was accepted
            try:
                answer = response.status, response.read()
            except Exception as error:
                self.broken.append(repr(error))
                return
            self.expected = self.expected or answer
            if answer != self.expected or answer[0] != 200:
                self.broken.append(answer)
                return
            self.answers += 1


@pytest.mark.parametrize("front", ["hot", "asgi"])
@pytest.mark.parametrize("kind", ["inline", "thread"])
def test_sigterm_under_load_breaks_no_answer_and_exits_0(tmp_path, iris_onnx, front, kind):
    model = iris_onnx.artefact if kind == "inline" else gated_model(tmp_path)
    rows = [[5.1, 3.5, 1.4, 0.2]] if kind == "inline" else [[1, 2]]
    with Process(tmp_path, "serve", model, "--front", front) as process:
        process.wait_ready()
        callers = [Caller(process.port, rows) for _ in range(16)]
        for caller in callers:
            caller.start()
        process.wait_for(lambda: all(caller.answers > 20 for caller in callers))
        assert process.signal().exit_code(20) == 0
        for caller in callers:
            caller.join(20)
            assert not caller.is_alive()
            assert caller.broken == []


@pytest.mark.parametrize("front", ["hot", "asgi"])
def test_what_was_accepted_before_sigterm_is_answered(tmp_path, front):
    model = gated_model(tmp_path)
    with Process(tmp_path, "serve", model, "--front", front) as process:
        process.wait_ready()
        (tmp_path / "entered").unlink()
        (tmp_path / "hold").touch()
        answers = []
        waiting = [threading.Thread(target=lambda: answers.append(process.predict([[1, 2]])[0])) for _ in range(8)]
        for thread in waiting:
            thread.start()
        process.wait_for((tmp_path / "entered").exists)
        process.wait_for(lambda: process.json("/model/info")["statistics"]["inflight"] == 9)
        process.signal()
        # Readiness turns first; a connection that is kept can still see it.
        (tmp_path / "hold").unlink()
        for thread in waiting:
            thread.join(20)
        assert answers == [200] * 8
        assert process.exit_code(20) == 0


def test_a_second_sigterm_ends_at_once(tmp_path):
    model = gated_model(tmp_path)
    with Process(tmp_path, "serve", model) as process:
        process.wait_ready()
        (tmp_path / "entered").unlink()
        (tmp_path / "hold").touch()
        thread = threading.Thread(target=_predict_in_vain, args=[process])
        thread.start()
        process.wait_for((tmp_path / "entered").exists)
        process.signal()
        process.wait_for(lambda: _refused(process.port))
        assert process.signal().exit_code(5) == 143
        thread.join(20)


def _predict_in_vain(process):
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        process.predict([[1, 2]])


def _refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_drain_that_would_not_end_is_bounded(tmp_path):
    model = gated_model(tmp_path)
    with Process(tmp_path, "serve", model, "--drain-timeout-s", "1") as process:
        process.wait_ready()
        (tmp_path / "entered").unlink()
        (tmp_path / "hold").touch()
        thread = threading.Thread(target=_predict_in_vain, args=[process])
        thread.start()
        process.wait_for((tmp_path / "entered").exists)
        assert process.signal(signal.SIGINT).exit_code(20) == 0
        thread.join(20)


def test_a_model_that_hangs_is_504_and_not_ready_while_the_server_lives(tmp_path):
    model = gated_model(tmp_path)
    with Process(tmp_path, "serve", model, "--compute-timeout-ms", "300") as process:
        process.wait_ready()
        (tmp_path / "hold").touch()
        assert process.predict([[1, 2]])[0] == 504
        assert process.ask("GET", "/health")[0] == 200
        assert process.json("/ready")["blockers"][0]["reason"] == "every instance runs beyond its compute timeout"
        assert process.predict([[1, 2]])[0] == 503
        (tmp_path / "hold").unlink()
        process.wait_ready()
        assert process.predict([[1, 2]])[0] == 200


def test_a_full_queue_is_503_with_retry_after_and_recovers(tmp_path):
    model = gated_model(tmp_path)
    with Process(tmp_path, "serve", model, "--max-queue-size", "4", "--max-batch-size", "4") as process:
        process.wait_ready()
        (tmp_path / "entered").unlink()
        (tmp_path / "hold").touch()
        answers = []
        first = threading.Thread(target=lambda: answers.append(process.predict([[9, 9]] * 4)[0]))
        first.start()
        process.wait_for((tmp_path / "entered").exists)
        waiting = [threading.Thread(target=lambda: answers.append(process.predict([[1, 2]])[0])) for _ in range(3)]
        for before, thread in enumerate(waiting, start=2):
            # One after the other: of six in one loop turn the last ones would rightly be refused.
            thread.start()
            process.wait_for(lambda more=before + 1: process.json("/model/info")["statistics"]["inflight"] == more)
        status, headers, _ = process.predict([[1, 2]] * 3)
        assert status == 503
        assert int(headers["retry-after"]) >= 1
        (tmp_path / "hold").unlink()
        for thread in (first, *waiting):
            thread.join(20)
        assert answers == [200] * 4
        assert process.predict([[1, 2]])[0] == 200
        assert process.json("/model/info")["statistics"]["inflight"] == 1


@pytest.mark.parametrize(
    ("sent", "flag"),
    [
        (b"POST /predict HTTP/1.1\r\nHost: loc", "--header-timeout-s"),
        (b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{", "--body-timeout-s"),
    ],
)
def test_a_caller_who_stalls_is_told_so_and_let_go(tmp_path, iris_onnx, sent, flag):
    with Process(tmp_path, "serve", iris_onnx.artefact, flag, "0.3") as process:
        process.wait_ready()
        with socket.create_connection(("127.0.0.1", process.port), timeout=30) as wire:
            wire.sendall(sent)
            answer = b""
            while chunk := wire.recv(65536):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 408")
        assert process.predict([[1, 2, 3, 4]])[0] == 200
