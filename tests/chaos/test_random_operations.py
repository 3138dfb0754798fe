"""Everything that may be done to models, in any order, under load: who asks notices nothing."""

import http.client
import json
import random
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from serve_support import Process

JSON = {"Content-Type": "application/json"}
OPERATIONS = 80
FIRST_REQUEST = 10**9
CODE = """
import time
import numpy as np

class Model:
    inputs = {"request": "INT64[-1, 1]"}
    outputs = {"version": "INT64[-1]", "request": "INT64[-1]"}
    batchable = True

    def __init__(self):
        time.sleep(SECONDS)
        if BROKEN:
            raise RuntimeError("broken on purpose")
        self.executed = open("executed.txt", "a")

    def predict(self, request: np.ndarray):
        numbers = request[:, 0]
        self.executed.write("".join(f"{number}\\n" for number in numbers))
        self.executed.flush()
        return {"version": np.full(len(numbers), VERSION), "request": numbers}
"""
CONFIGURATIONS = ("", "bad = = 1", "[batching]\nmax_batch_size = 8\n", '[lifecycle]\nload = "lazy"\n')


class Operator(threading.Thread):
    """Does one thing after the other to two models: ``free``, and ``always``, of which two versions are left alone."""

    def __init__(self, process, repository, seed):
        super().__init__(daemon=True)
        self.process = process
        self.repository = repository
        self.random = random.Random(seed)
        self.parts = repository.parent / f"parts-{seed}"
        self.wrong = []

    def run(self):
        kinds = (self.act, self.act, self.choose, self.move, self.put, self.put, self.delete, self.configure)
        for _ in range(OPERATIONS):
            self.random.choice(kinds)(self.random.choice(("free", "always")))

    def ask(self, method, path, **body):
        try:
            status, _, answer = self.process.ask(method, f"/admin/models/{path}", json.dumps(body), JSON)
        except OSError as error:
            status, answer = 0, repr(error)
        if status not in (200, 202, 404, 409):
            self.wrong.append((method, path, body, status, answer))

    def act(self, model):
        actions = ("load", "reload") if model == "always" else ("load", "reload", "unload")
        version = f"/versions/{self.random.randint(1, 5)}" if self.random.random() < 0.6 else ""
        self.ask("POST", f"{model}{version}/{self.random.choice(actions)}?wait={self.random.choice(('true', 'false'))}")

    def choose(self, model):
        self.ask("PUT", f"{model}/policy", policy=self.random.choice(("latest", "latest:2", "all", "1,2", "")))

    def move(self, model):
        if self.random.random() < 0.3:
            self.ask("DELETE", f"{model}/labels/stable")
        else:
            self.ask("PUT", f"{model}/labels/stable", version=self.random.randint(1, 5))

    def put(self, model):
        version = self.random.randint(3, 5)
        put(self.repository, model, version, self.parts, self.random.random() < 0.3, self.random.choice((0, 0.3)))

    def delete(self, model):
        shutil.rmtree(self.repository / model / str(self.random.randint(3, 5)), ignore_errors=True)

    def configure(self, model):
        (self.repository / model / "model.toml").write_text(self.random.choice(CONFIGURATIONS))


def put(repository, model, version, parts, broken=False, seconds=0.0):
    """A whole version at once, unless it is there."""
    part = parts / f"{model}-{version}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    code = CODE.replace("VERSION", str(version)).replace("BROKEN", str(broken)).replace("SECONDS", str(seconds))
    (part / "model.py").write_text(code)
    (repository / model).mkdir(parents=True, exist_ok=True)
    try:
        part.rename(repository / model / str(version))
    except OSError:
        return


class Caller(threading.Thread):
    """Asks in a closed loop: the model that is always there, versions and labels that come and go."""

    paths = (
        "always/predict",
        "always/versions/1/predict",
        "always/versions/stable/predict",
        "free/predict",
        "free/versions/4/predict",
    )

    def __init__(self, port, number):
        super().__init__(daemon=True)
        self.port = port
        self.random = random.Random(number)
        self.leaving = threading.Event()
        self.next = FIRST_REQUEST * (number + 1)
        self.answered = []
        self.wrong = []

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self.leaving.is_set() and not self.wrong:
            self.next += 1
            path = self.random.choice(self.paths)
            try:
                connection.request("POST", f"/models/{path}", json.dumps({"instances": [[self.next]]}), JSON)
                response = connection.getresponse()
                answer = response.status, response.getheader("Inferd-Model-Version"), json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.wrong.append((path, repr(error)))
                return
            self.take(path, *answer)

    def take(self, path, status, version, body):
        if status in (404, 503) and path != "always/predict":
            return
        asked = path.split("/")[2] if "versions" in path else version
        named = {"version": int(version or 0), "request": self.next}
        if status != 200 or body != {"predictions": [named]} or asked not in (version, "stable"):
            self.wrong.append((path, status, version, body))
        self.answered.append(self.next)


@pytest.mark.parametrize(("front", "seed"), [("hot", 1), ("asgi", 2)])
def test_whatever_is_done_to_models_no_request_is_lost_or_answered_by_another_version(tmp_path, front, seed):
    repository = tmp_path / "models"
    for model in ("free", "always"):
        for version in (1, 2):
            put(repository, model, version, tmp_path / "parts")
    flags = ("--front", front, "--watch", "--watch-settle-s", "0.2", "--watch-interval-s", "0.5")
    with Process(tmp_path, "serve", repository, *flags) as process:
        process.wait_ready()
        callers = [Caller(process.port, number) for number in range(3)]
        operators = [Operator(process, repository, 10 * seed + number) for number in range(2)]
        for thread in (*callers, *operators):
            thread.start()
        for operator in operators:
            operator.join(300)
        # At rest, what is there is served.
        for model in ("free", "always"):
            (repository / model / "model.toml").unlink(missing_ok=True)
            put(repository, model, 9, tmp_path / "parts")
            assert process.ask("PUT", f"/admin/models/{model}/policy", '{"policy": "latest"}', JSON)[0] == 200
            assert process.ask("POST", f"/admin/models/{model}/load", "", JSON)[0] == 200
            body = json.dumps({"instances": [[1]]})
            newest = [{"version": 9, "request": 1}]
            process.wait_for(
                lambda path=f"/models/{model}/predict", body=body, newest=newest: (
                    json.loads(process.ask("POST", path, body, JSON)[2]).get("predictions") == newest
                )
            )
        time.sleep(0.1)  # some more answers, with nothing changing
        for caller in callers:
            caller.leaving.set()
            caller.join(60)
        assert process.signal().exit_code() == 0
    assert [thread.wrong for thread in (*callers, *operators)] == [[]] * 5
    assert not any(thread.is_alive() for thread in (*callers, *operators))
    answered = [number for caller in callers for number in caller.answered]
    executed = [int(line) for line in (tmp_path / "executed.txt").read_text().split()]
    assert sorted(number for number in executed if number > FIRST_REQUEST) == sorted(answered)
    assert "Task exception" not in process.output
    assert "Exception in callback" not in process.output
