"""A bandit of a real server: what callers tell moves the others to the better model, and it is all there after a
restart."""

import json
from collections import Counter

import pytest
from serve_support import Process

from inferd.experiments.definition_toml import read_experiment
from inferd.experiments.store import Store

MODEL = """
import numpy as np

class Model:
    inputs = {"x": "FP64[-1, 1]"}
    outputs = {"y": "FP64[-1, 1]"}
    batchable = True

    def predict(self, x: np.ndarray) -> np.ndarray:
        return FORMULA
"""
FORMULAS = {1: "2 * x", 2: "np.sin(x)"}
EXPERIMENT = """
id = "curve"
model = "curve"
mode = "bandit"

[[variant]]
name = "line"
target = "curve@1"

[[variant]]
name = "sine"
target = "curve@2"

[[metric]]
name = "error_size"
kind = "mean"
goal = "decrease"

[bandit]
reward = "error_size"
explore = 0.2
every_s = 1
warm_up = 20
"""
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def folder(tmp_path):
    for version, formula in FORMULAS.items():
        (tmp_path / "curve" / str(version)).mkdir(parents=True)
        (tmp_path / "curve" / str(version) / "model.py").write_text(MODEL.replace("FORMULA", formula))
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "curve.toml").write_text(EXPERIMENT)
    return tmp_path


def serve(folder):
    return Process(folder, "serve", "curve", "--version-policy", "all", "--experiments", "experiments")


def turn(server, count):
    """Ask for sines, and tell how far off each answer was: how many got which variant."""
    told, got = [], Counter()
    for number in range(count):
        x = 1 + number % 5
        status, headers, body = server.predict([[x]])
        assert status == 200
        got[headers["inferd-variant"]] += 1
        size = abs(json.loads(body)["predictions"][0][0] - {1: 0.84, 2: 0.91, 3: 0.14, 4: -0.76, 5: -0.96}[x])
        told.append({"prediction_id": headers["inferd-prediction-id"], "metric": "error_size", "value": size})
    status, _, body = server.ask("POST", "/feedback", json.dumps(told), JSON)
    assert (status, json.loads(body)["stored"]) == (200, count)
    return got


def shares(server):
    return {each["name"]: each["share"] for each in server.json("/admin/experiments/curve")["variants"]}


def test_the_better_model_gets_the_callers_and_everything_outlives_a_restart(folder):
    with serve(folder) as server:
        server.wait_ready()
        before = turn(server, 200)
        assert 60 < before["line"] < 140
        server.wait_for(lambda: shares(server)["sine"] > 0.85)
        after = turn(server, 400)
        assert after["sine"] > 320
        learned = server.json("/admin/experiments/curve/history")["history"][0]
        assert (learned["what"], learned["who"]) == ("learned", "bandit")
        assert learned["why"].startswith("error_size: line ")
        code, out, err = server.command("experiment", "report", "--experiment", "curve")
        assert (code, err) == (0, "")
        assert "curve: 600 predictions" in out
        assert "shares follow rewards, so these averages cannot be compared" in out
        assert "always sine" in out
        code, out, _ = server.command("experiment", "show", "curve")
        assert "rewards" in out
        assert server.signal().exit_code() == 0
    with serve(folder) as server:
        server.wait_ready()
        assert shares(server) == {"line": pytest.approx(0.1), "sine": pytest.approx(0.9)}
        assert turn(server, 100)["sine"] > 70
        assert server.signal().exit_code() == 0
    store = Store.open(f"sqlite:///{folder / 'experiments' / 'experiments.db'}")
    experiment = read_experiment(folder / "experiments" / "curve.toml")
    decisions = store.decisions(experiment, experiment.metrics)
    store.close()
    assert set(decisions.propensity[:200]) == {0.5}
    assert set(decisions.propensity[-400:]) == {0.1, 0.9}
    evaluated = Process(
        folder,
        "experiment",
        "evaluate",
        "--store",
        "sqlite:///experiments/experiments.db",
        "--experiment",
        "curve",
        "--json",
    )
    with evaluated:
        assert evaluated.exit_code() == 0, evaluated.output
        policies = {each["policy"]: each["robust"]["mean"] for each in json.loads(evaluated.output)["policies"]}
    assert policies["always sine"] == pytest.approx(0.0, abs=0.15)
    assert policies["always line"] == pytest.approx(5.97, abs=2.0)


def test_the_kill_switch_and_a_model_that_is_gone_leave_nobody_without_an_answer(folder):
    with serve(folder) as server:
        server.wait_ready()
        server.ask("POST", "/admin/models/curve/versions/2/unload", "{}", JSON)
        server.wait_for(lambda: server.predict([[1]], path="/models/curve/versions/2/predict")[0] != 200)
        for _ in range(40):
            status, headers, body = server.predict([[1]])
            assert (status, json.loads(body)["predictions"], headers["inferd-variant"]) == (200, [[2.0]], "line")
        found = {each["name"]: each["fallbacks"] for each in server.json("/admin/experiments/curve")["variants"]}
        assert found["sine"] > 5
        server.ask("POST", "/admin/experiments/curve/stop", "{}", JSON)
        assert "inferd-variant" not in server.predict([[1]])[1]
