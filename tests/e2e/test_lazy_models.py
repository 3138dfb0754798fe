"""A real server that loads models when somebody asks for them, and lets them go for others."""

import json
import shutil
import threading
import time

import pytest
from serve_support import EXAMPLES, Process

CODE = """
import os
import time

import numpy as np

class Model:
    inputs = {"x": "FP32[-1, 1]"}
    outputs = {"number": "INT64[-1]"}
    batchable = True

    def __init__(self):
        open("loads.txt", "a").write("NUMBER\\n")
        time.sleep(0.2)

    def predict(self, x: np.ndarray) -> np.ndarray:
        while (x == 5).any() and not os.path.exists("go"):
            time.sleep(0.01)
        return np.full(len(x), NUMBER)
"""
JSON = {"Content-Type": "application/json"}


class Lazy:
    def __init__(self, folder, *args, count=4):
        self.folder = folder
        for number in range(1, count + 1):
            version = folder / "models" / f"m{number}" / "1"
            version.mkdir(parents=True)
            (version / "model.py").write_text(CODE.replace("NUMBER", str(number)))
            (version / "ballast.bin").write_bytes(bytes(1 << 20))
        self.process = Process(folder, "serve", folder / "models", "--lazy", *args)

    def __enter__(self):
        self.process.wait_ready()
        return self

    def __exit__(self, *exception):
        self.process.__exit__()

    def predict(self, number, value=1):
        status, headers, body = self.process.ask(
            "POST", f"/models/m{number}/predict", json.dumps({"instances": [[value]]}), JSON
        )
        return (status, json.loads(body)["predictions"][0]) if status == 200 else (status, headers)

    def loads(self):
        file = self.folder / "loads.txt"
        return file.read_text().split() if file.exists() else []

    def state(self, number):
        (version,) = json.loads(self.process.ask("GET", f"/admin/models/m{number}")[2])["versions"]
        return version["state"], version.get("reason", "")

    def until(self, condition):
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, self.process.log.read_text()
            time.sleep(0.02)


def test_the_server_is_ready_without_loading_and_the_first_call_loads(tmp_path):
    with Lazy(tmp_path) as served:
        assert served.loads() == []
        assert served.state(2) == ("PENDING", "loaded on its first call")
        assert served.predict(2) == (200, 2)
        assert served.loads() == ["2"]
        assert served.state(2) == ("READY", "")
        assert served.state(1) == ("PENDING", "loaded on its first call")


def test_many_first_calls_load_once_and_are_all_answered(tmp_path):
    with Lazy(tmp_path) as served:
        answers = []
        callers = [threading.Thread(target=lambda: answers.append(served.predict(1))) for _ in range(16)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert answers == [(200, 1)] * 16
        assert served.loads() == ["1"]


def test_a_first_call_waits_for_what_takes_the_place_of_the_version_it_waited_for(tmp_path):
    with Lazy(tmp_path, count=1) as served:
        model = tmp_path / "models" / "m1"
        (model / "1" / "model.py").write_text(CODE.replace("NUMBER", "1").replace("sleep(0.2)", "sleep(30)"))
        answers = []
        caller = threading.Thread(target=lambda: answers.append(served.predict(1)))
        caller.start()
        served.until(lambda: served.loads() == ["1"])
        shutil.copytree(model / "1", model / "2")
        (model / "2" / "model.py").write_text(CODE.replace("NUMBER", "2"))
        assert served.process.ask("POST", "/admin/models/m1/load?wait=false", "", JSON)[0] == 202
        caller.join(20)
        assert answers == [(200, 2)]


def test_callers_may_be_sent_away_instead_of_waiting(tmp_path):
    with Lazy(tmp_path, "--first-call-wait-s", "0") as served:
        status, headers = served.predict(1)
        assert status == 503
        assert headers["retry-after"] == "1"
        served.until(lambda: served.predict(1) == (200, 1))
        assert served.loads() == ["1"]


def test_the_longest_unasked_makes_room_for_another(tmp_path):
    with Lazy(tmp_path, "--memory-budget-mb", "2.5", count=3) as served:
        for number in (1, 2, 1, 3):
            assert served.predict(number) == (200, number)
        assert served.state(2) == ("PENDING", "loaded on its first call")
        assert served.state(1)[0] == served.state(3)[0] == "READY"
        assert served.predict(2) == (200, 2)
        assert served.loads() == ["1", "2", "3", "2"]
        assert served.process.ask("POST", "/admin/rescan", "", JSON)[0] == 202
        assert served.state(2) == ("READY", "")
        history = json.loads(served.process.ask("GET", "/admin/models/m2/history")[2])["history"]
        assert any(each["event"] == "unloaded" and "needs its memory" in each["why"] for each in history)


def test_a_model_at_work_is_never_unloaded(tmp_path):
    with Lazy(tmp_path, "--memory-budget-mb", "1.5", "--first-call-wait-s", "0.5", count=2) as served:
        served.until(lambda: served.predict(1) == (200, 1))
        busy = []
        caller = threading.Thread(target=lambda: busy.append(served.predict(1, value=5)))
        caller.start()
        # The look itself is counted too.
        served.until(lambda: b'"inflight":2' in served.process.ask("GET", "/models/m1/info")[2])
        status, _, body = served.process.ask("POST", "/models/m2/predict", '{"instances": [[1]]}', JSON)
        assert status == 503
        assert "no room in the memory budget: everything loaded is in use" in json.loads(body)["detail"]
        assert served.state(2) == ("PENDING", "no room in the memory budget: everything loaded is in use")
        (tmp_path / "go").touch()
        caller.join()
        assert busy == [(200, 1)]
        served.until(lambda: served.predict(2) == (200, 2))
        assert served.state(1)[0] == "PENDING"


def test_a_model_that_nobody_asks_for_is_unloaded(tmp_path):
    with Lazy(tmp_path, "--idle-unload-s", "0.6") as served:
        assert served.predict(1) == (200, 1)
        served.until(lambda: served.state(1)[0] == "PENDING")
        assert served.predict(1) == (200, 1)
        assert served.loads() == ["1", "1"]


def test_a_model_that_cannot_be_loaded_says_so_to_those_who_wait(tmp_path):
    broken = tmp_path / "models" / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "model.py").write_text("raise RuntimeError('no such weights')")
    (tmp_path / "models" / "broken" / "model.toml").write_text("[lifecycle]\nretries = 0\n")
    with Lazy(tmp_path) as served:
        status, _, body = served.process.ask("POST", "/models/broken/predict", '{"instances": [[1]]}', JSON)
        assert status == 503
        assert "FAILED" in json.loads(body)["detail"]
        assert served.predict(1) == (200, 1)


def test_a_model_that_cannot_be_loaded_is_not_tried_again_by_each_call(tmp_path):
    broken = tmp_path / "models" / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "model.py").write_text("open('tries.txt', 'a').write('x')\nraise RuntimeError('no such weights')")
    with Lazy(tmp_path, count=1) as served:

        def ask():
            for _ in range(25):
                status, _, body = served.process.ask("POST", "/models/broken/predict", '{"instances": [[1]]}', JSON)
                statuses.add((status, json.loads(body)["detail"]))

        statuses = set()
        callers = [threading.Thread(target=ask) for _ in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        failed = "model 'broken' version 1 is FAILED: model.py, line 2: RuntimeError: no such weights"
        assert (503, failed) in statuses
        assert {status for status, _ in statuses} == {503}
        assert len((tmp_path / "tries.txt").read_text()) <= 3


def test_a_model_larger_than_the_budget_says_so(tmp_path):
    with Lazy(tmp_path, "--memory-budget-mb", "0.5", count=1) as served:
        status, _, body = served.process.ask("POST", "/models/m1/predict", '{"instances": [[1]]}', JSON)
        words = "its files are 1.0 MiB, more than the whole memory budget (--memory-budget-mb 0.5)"
        assert (status, words in json.loads(body)["detail"]) == (503, True)
        assert served.state(1) == ("FAILED", words)
        assert f"m1 version 1 FAILED: {words}" in served.process.output


def test_loading_a_model_does_not_wait_for_its_first_call(tmp_path):
    with Lazy(tmp_path) as served:
        assert served.process.ask("POST", "/admin/models/m1/load", "", JSON)[0] == 200
        assert served.state(1) == ("READY", "")
        assert served.loads() == ["1"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v2/models/m1/ready"), ("GET", "/v1/models/m1"), ("POST", "/v2/repository/index")],
)
def test_a_model_that_sleeps_is_ready_to_those_who_ask(tmp_path, method, path):
    with Lazy(tmp_path, count=1) as served:
        status, _, body = served.process.ask(method, path)
        assert status == 200
        assert b"READY" in body or b'"ready":true' in body
        assert served.loads() == []


def test_a_new_version_of_a_model_in_use_is_loaded_and_one_of_a_sleeping_model_is_not(tmp_path):
    with Lazy(tmp_path, count=2) as served:
        assert served.predict(1) == (200, 1)
        for number in (1, 2):
            old = tmp_path / "models" / f"m{number}"
            shutil.copytree(old / "1", old / "2")
            (old / "2" / "model.py").write_text(CODE.replace("NUMBER", str(number * 10)))
        assert served.process.ask("POST", "/admin/rescan", "", JSON)[0] == 202
        served.until(lambda: served.predict(1) == (200, 10))
        assert "20" not in served.loads()
        assert served.predict(2) == (200, 20)


def test_the_default_version_is_the_highest_whichever_is_loaded(tmp_path):
    with Lazy(tmp_path, "--version-policy", "all", count=1) as served:
        model = tmp_path / "models" / "m1"
        shutil.copytree(model / "1", model / "2")
        (model / "2" / "model.py").write_text(CODE.replace("NUMBER", "2"))
        assert served.process.ask("POST", "/admin/rescan", "", JSON)[0] == 202
        body = served.process.ask("POST", "/models/m1/versions/1/predict", '{"instances": [[1]]}', JSON)[2]
        assert json.loads(body) == {"predictions": [1]}
        assert served.loads() == ["1"]
        assert served.predict(1) == (200, 2)
        assert served.loads() == ["1", "2"]


def test_models_of_a_lazy_server_may_be_eager(tmp_path):
    shutil.copytree(EXAMPLES / "iris-onnx", tmp_path / "models" / "iris")
    with (tmp_path / "models" / "iris" / "model.toml").open("a") as file:
        file.write('\n[lifecycle]\nload = "eager"\n')
    with Lazy(tmp_path) as served:
        described = json.loads(served.process.ask("GET", "/admin/models/iris")[2])
        assert [each["state"] for each in described["versions"]] == ["READY"]
