"""A real server that gives answers again, over two protocols, until the version goes."""

import json

import pytest
from serve_support import Process

CODE = """
import numpy as np

class Model:
    inputs = {"x": "FP32[-1, 1]"}
    outputs = {"count": "INT64[-1]"}
    batchable = True
    calls = 0

    def predict(self, x: np.ndarray) -> np.ndarray:
        Model.calls += 1
        return np.full(len(x), Model.calls)
"""
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def served(tmp_path):
    folder = tmp_path / "models" / "m" / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(CODE)
    (folder.parent / "model.toml").write_text("[cache]\nmax_mb = 1\n")
    with Process(tmp_path, "serve", tmp_path / "models") as process:
        yield process.wait_ready()


def ask(process, path, body):
    status, _, answer = process.ask("POST", path, json.dumps(body), JSON)
    assert status == 200, answer
    return json.loads(answer)


def test_v2s_statistics_count_what_was_cached(served):
    for value in (1, 2, 1, 1):
        ask(served, "/predict", {"instances": [[value]]})
    (statistics,) = served.json("/v2/models/m/stats")["model_stats"]
    counted = {name: each["count"] for name, each in statistics["inference_stats"].items()}
    assert (counted["cache_hit"], counted["cache_miss"], counted["success"]) == (2, 2, 4)
    assert (statistics["inference_count"], statistics["execution_count"]) == (2, 2)


def test_equal_requests_get_one_answer_until_the_version_is_loaded_anew(served):
    first = ask(served, "/predict", {"instances": [[1]]})["predictions"]
    assert ask(served, "/predict", {"instances": [[1]]})["predictions"] == first
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}
    assert ask(served, "/v2/models/m/infer", {"inputs": [tensor]})["outputs"][0]["data"] == first
    assert ask(served, "/predict", {"instances": [[2]]})["predictions"] != first
    metrics = served.ask("GET", "/metrics")[2].decode()
    assert 'inferd_cache_total{model="m",version="1",result="hit"} 2' in metrics
    assert served.ask("POST", "/admin/models/m/reload", "", JSON)[0] == 200
    ask(served, "/predict", {"instances": [[1]]})
    metrics = served.ask("GET", "/metrics")[2].decode()
    assert 'inferd_cache_total{model="m",version="1",result="miss"} 3' in metrics
