"""``inferd replay``: captured requests through a candidate, held against what was recorded."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from inferd.experiments.assignment import Assigner
from inferd.experiments.definition_toml import read_experiment
from inferd.server.capture_file import write_capture
from inferd.serving.capture import CapturedRequest


def recorded(models, count=60):
    """Requests of one row each, as the model in ``models`` answers them."""
    from inferd.core.config import ModelConfig
    from inferd.repository.loader import load_version

    rows = np.load(models / "x.npy").astype(np.float32)[:: 150 // count][:count]
    loaded = load_version(ModelConfig("iris"), 1, models / "iris" / "1" / "model.onnx")
    requests = []
    for number, row in enumerate(rows):
        outputs = loaded.model.execute({"X": row[None]}, (), {}, "")
        requests.append(
            CapturedRequest(
                f"r{number}",
                1_700_000_000_000 + number * 1000,
                1,
                "ok",
                {"X": row[None].copy()},
                {name: np.array(array) for name, array in outputs.items()},
                unit=f"user-{number % 20}",
                batch_rows=1,
                compute_ns=100_000,
                total_ns=300_000,
            )
        )
    loaded.close()
    return requests


@pytest.fixture(scope="module")
def requests(models):
    return recorded(models)


def save(path, requests, **settings):
    path.write_bytes(b"".join(write_capture({"model": "iris", **settings}, requests)))
    return path


@pytest.fixture
def capture(tmp_path, requests):
    return save(tmp_path / "capture.npz", requests)


def report(inferd, *arguments):
    code, out, err = inferd("replay", *arguments, "--json")
    assert out, err
    return code, json.loads(out)


def test_the_version_that_answered_answers_alike(inferd, models, capture):
    code, found = report(inferd, capture, models / "iris", "--max-differing", 0)
    assert code == 0
    assert found["compared"] == found["within_tolerance"] == 60
    assert found["labels"] == {"agreeing": 60, "rows": 60, "share": 1.0}
    assert found["after"]["answered"] == found["before"]["answered"] == 60
    assert found["before"]["compute_ms"] == {"p50": 0.1, "p95": 0.1, "p99": 0.1}
    assert found["after"]["compute_ms"]["p99"] >= found["after"]["compute_ms"]["p50"] > 0


WORSE = """
import numpy as np

class Model:
    inputs = {"X": "FP32[-1, 4]"}
    outputs = {"label": "INT64[-1]", "probabilities": "FP32[-1, 3]"}
    batchable = True

    def predict(self, X):
        if (X[:, 0] > 7.5).any():
            raise RuntimeError("too long a petal")
        p = self.given(X)
        return {"label": p.argmax(axis=1), "probabilities": p}

    def given(self, X):
        answers = ANSWERS
        rows = [tuple(round(float(v), 3) for v in row) for row in X]
        return np.array([answers.get(row, [1, 0, 0]) for row in rows], np.float32)
"""


def worse(folder, requests, wrong):
    """A version that gives the recorded answers, but for the requests in ``wrong``."""
    answers = {}
    for number, each in enumerate(requests):
        p = each.outputs["probabilities"][0].tolist()
        answers[tuple(round(float(v), 3) for v in each.inputs["X"][0])] = p[::-1] if number in wrong else p
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(WORSE.replace("ANSWERS", repr(answers)))
    return folder


def test_a_worse_version_differs_in_exactly_the_rows_it_gets_wrong(inferd, tmp_path, requests):
    requests = [each for each in requests if each.inputs["X"][0, 0] <= 7.5]
    capture = save(tmp_path / "capture.npz", requests)
    wrong = {number for number, each in enumerate(requests) if each.outputs["label"][0] != 1 and number % 5 == 0}
    candidate = worse(tmp_path / "iris" / "2", requests, wrong)
    code, found = report(inferd, capture, candidate, "--worst", 100, "--max-differing", 0.05)
    assert code == 1
    assert {each["request_id"] for each in found["worst"]} == {f"r{int(requests[n].request_id[1:])}" for n in wrong}
    assert found["differing"] == len(wrong) / len(requests)
    assert found["labels"]["rows"] - found["labels"]["agreeing"] == len(wrong)
    assert report(inferd, capture, candidate, "--max-differing", 0.5)[0] == 0
    assert report(inferd, capture, candidate, "--rtol", 0, "--atol", 1e9)[1]["within_tolerance"] == len(requests) - len(
        wrong
    )


def test_failures_are_told_apart_and_count_as_answers_lost(inferd, tmp_path, requests):
    capture = save(tmp_path / "capture.npz", requests)
    candidate = worse(tmp_path / "iris" / "2", requests, set())
    lost = sum(bool(each.inputs["X"][0, 0] > 7.5) for each in requests)
    assert lost
    code, found = report(inferd, capture, candidate, "--max-differing", 0)
    assert code == 1
    assert found["lost"] == found["after"]["errors"]["internal"] == lost
    assert found["reasons"] == {"RuntimeError: too long a petal": lost}
    assert found["within_tolerance"] == found["compared"] == 60 - lost
    code, out, err = inferd("replay", capture, candidate)
    assert f"{lost} x RuntimeError: too long a petal" in out
    assert f"answered no more     {lost}" in out
    assert "Traceback" not in err


def test_recorded_failures_stand_beside(inferd, tmp_path, models, requests):
    failed = replace(requests[0], outcome="unavailable", reason="busy", outputs={}, compute_ns=0)
    code, found = report(inferd, save(tmp_path / "capture.npz", [failed, *requests[1:]]), models / "iris")
    assert (code, found["gained"], found["compared"]) == (0, 1, 59)
    assert found["before"]["errors"] == {"unavailable": 1}
    assert found["after"]["errors"] == {}


def test_people_read_both_sides_and_the_worst(inferd, tmp_path, requests):
    requests = [each for each in requests if each.inputs["X"][0, 0] <= 7.5]
    candidate = worse(tmp_path / "iris" / "2", requests, {0, 1})
    code, out, _ = inferd("replay", save(tmp_path / "capture.npz", requests), candidate, "--worst", 1)
    assert code == 0
    assert "requests to iris, answered by version 1" in out
    assert "recorded" in out
    assert "compute p99" in out
    assert f"{2 / len(requests):.2%} of the answers differ" in out
    assert "output 'label' differs in 1 of 1 values; the worst at [0]: expected 0, got 2" in out
    assert out.count("    X = [[") == 1
    assert "latency: recorded under the traffic there was" in out


def test_a_version_that_no_request_fits_is_said_to_and_fails(inferd, repeat, capture):
    code, out, _ = inferd("replay", capture, repeat)
    assert code == 1
    assert "60 x unknown input 'X'; the model takes 'text', 'times'" in out
    assert "answered no more     60" in out


def test_two_versions_can_be_held_against_each_other(inferd, tmp_path, models, requests):
    requests = [each for each in requests if each.inputs["X"][0, 0] <= 7.5]
    changed = [replace(each, outputs={}) for each in requests]
    capture = save(tmp_path / "capture.npz", changed, redact=["X"])
    candidate = worse(tmp_path / "iris" / "2", requests, {0})
    _, found = report(inferd, capture, candidate, "--against", models / "iris" / "1")
    assert (found["before"]["name"], found["after"]["name"]) == ("iris 1", "iris 2")
    assert (found["compared"], found["within_tolerance"]) == (len(requests), len(requests) - 1)


def test_redacted_inputs_are_not_compared_with_what_others_were_answered(inferd, tmp_path, models, requests):
    capture = save(tmp_path / "capture.npz", requests, redact=["X"])
    code, out, _ = inferd("replay", capture, models / "iris")
    assert code == 0
    assert "X were redacted" in out
    assert "of the answers differ" not in out
    code, _, err = inferd("replay", capture, models / "iris", "--max-differing", 0.1)
    assert code == 2
    assert "name the version that answered with --against" in err


def test_parameters_outputs_and_rows_are_replayed_as_they_were(inferd, tmp_path):
    (tmp_path / "m.py").write_text(
        """
import numpy as np

class Model:
    inputs = {"x": "FP32[-1, 1]"}
    outputs = {"y": "FP32[-1, 1]", "z": "FP32[-1, 1]"}
    batchable = True

    def predict(self, x, parameters):
        return {"y": x * np.float32(parameters.get("times", 1)), "z": x}
"""
    )
    x = np.ones((3, 1), np.float32)
    requests = [
        CapturedRequest("a", 1, 1, "ok", {"x": x}, {"y": x * 2}, wanted=("y",), parameters={"times": 2}, rows=3),
        CapturedRequest("b", 2, 1, "ok", {"x": x[:1]}, {"y": x[:1], "z": x[:1]}),
        CapturedRequest("c", 3, 1, "ok", {"x": x[:1]}, {"y": x[:1]}, signature="other"),
    ]
    capture = save(tmp_path / "capture.npz", requests)
    _, found = report(inferd, capture, f"{tmp_path}/m.py:Model")
    assert (found["compared"], found["within_tolerance"], found["lost"]) == (2, 2, 1)
    assert list(found["reasons"]) == ["no signature named 'other'; there are: default"]


@pytest.mark.parametrize("content", [b"", b"not a capture"])
def test_what_is_no_capture_is_refused(inferd, tmp_path, models, content):
    (tmp_path / "capture.npz").write_bytes(content)
    code, _, err = inferd("replay", tmp_path / "capture.npz", models / "iris")
    assert code == 1
    assert "is not a whole capture" in err
    code, _, err = inferd("replay", tmp_path / "none.npz", models / "iris")
    assert code == 1
    assert "none.npz" in err


def test_a_capture_of_nothing_is_refused(inferd, tmp_path, models):
    code, _, err = inferd("replay", save(tmp_path / "capture.npz", []), models / "iris")
    assert (code, "holds no requests" in err) == (1, True)


def test_golden_examples_and_predictions_come_from_a_capture(inferd, tmp_path, models, capture, requests):
    shutil.copytree(models / "iris", tmp_path / "models" / "iris")
    golden = tmp_path / "models" / "iris" / "1" / "golden.npz"
    assert inferd("golden", tmp_path / "models", capture, "-o", golden, "--rows", 50)[0] == 0
    with np.load(golden) as archive:
        np.testing.assert_array_equal(archive["input.X"], np.concatenate([each.inputs["X"] for each in requests[:50]]))
    assert inferd("check", tmp_path / "models")[0] == 0
    code, out, _ = inferd("predict", models / "iris", capture, "--output", "label")
    assert code == 0
    assert json.loads(out)["predictions"] == [int(each.outputs["label"][0]) for each in requests]


EXPERIMENT = """
id = "e"
model = "iris"
unit = "header:X-User"

[[variant]]
name = "control"
target = "iris@1"

[[variant]]
name = "candidate"
target = "iris@2"

[[metric]]
name = "error"
kind = "proportion"
goal = "decrease"
"""
LATENCY = '[[metric]]\nname = "latency_us"\nkind = "mean"\ngoal = "decrease"\n'


@pytest.fixture
def two_versions(tmp_path, models, requests):
    shutil.copytree(models / "iris", tmp_path / "models" / "iris")
    worse(tmp_path / "models" / "iris" / "2", requests, {0, 5})
    (tmp_path / "e.toml").write_text(EXPERIMENT)
    return tmp_path


def read_log(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_requests_go_to_the_variant_of_their_unit_and_the_log_can_be_judged(inferd, two_versions, capture, requests):
    log, definition = two_versions / "log.csv", two_versions / "e.toml"
    code, out, err = inferd("replay", capture, "--experiment", definition, "--log", log, two_versions / "models")
    assert code == 0, err
    rows = read_log(log)
    assert len(rows) == 60
    assigner = Assigner(read_experiment(definition))
    for number, (row, each) in enumerate(zip(rows, requests, strict=True)):
        variant = assigner.assign(each.unit).variant.name
        assert (row["unit"], row["variant"], row["request_id"]) == (each.unit, variant, each.request_id)
        assert row["version"] == ("1" if variant == "control" else "2")
        assert float(row["timestamp"]) == each.at_ms / 1000
        failed = variant == "candidate" and each.inputs["X"][0, 0] > 7.5
        assert row["error"] == str(int(failed))
        if failed:
            assert (row["label"], row["score"]) == ("", "")
            continue
        expected = int(each.outputs["label"][0])
        turned = variant == "candidate" and number in (0, 5)
        assert int(row["label"]) == (2 - expected if turned else expected)
        assert float(row["score"]) == pytest.approx(each.outputs["probabilities"].max(), abs=1e-6)
    assert f"control {sum(row['variant'] == 'control' for row in rows)}" in out
    code, out, err = inferd("experiment", "report", log, "--definition", definition)
    assert code == 0, err
    assert "error (proportion), candidate against control" in out


def test_a_replay_of_two_equal_versions_says_nothing_of_latency(inferd, tmp_path, models, requests):
    for version in ("1", "2"):
        shutil.copytree(models / "iris" / "1", tmp_path / "models" / "iris" / version)
    (tmp_path / "e.toml").write_text(EXPERIMENT)
    captured = [
        replace(each, unit=f"user-{number}", request_id=f"r{number}") for number, each in enumerate(requests * 10)
    ]
    capture, log = save(tmp_path / "many.npz", captured), tmp_path / "log.csv"
    code, _, err = inferd("replay", capture, "--experiment", tmp_path / "e.toml", "--log", log, tmp_path / "models")
    assert code == 0, err
    code, out, err = inferd("experiment", "report", log, "--definition", tmp_path / "e.toml", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert min(variant["units"] for variant in found["variants"]) > 250
    assert [each["metric"] for each in (*found["comparisons"], *found["automatic"])] == ["error"]
    assert found["comparisons"][0]["conclusion"] == "too early"  # no request failed, so nothing varies


def test_a_version_that_its_gate_refuses_is_named(inferd, two_versions, capture):
    examples = two_versions / "models" / "iris" / "2" / "golden.npz"
    assert inferd("golden", two_versions / "models" / "iris" / "1", capture, "-o", examples)[0] == 0
    code, _, err = inferd(
        *("replay", capture, "--experiment", two_versions / "e.toml", "--log", two_versions / "log.csv"),
        two_versions / "models",
    )
    assert code == 1
    assert "inferd: iris version 2: gate: golden.npz: output" in err


def test_a_request_of_several_rows_counts_once(inferd, two_versions, requests):
    wide = replace(
        requests[0],
        inputs={"X": np.concatenate([each.inputs["X"] for each in requests[:3]])},
        outputs={},
        rows=3,
        unit="",
    )
    capture, log = save(two_versions / "wide.npz", [wide]), two_versions / "log.csv"
    code, _, err = inferd(
        "replay", capture, "--experiment", two_versions / "e.toml", "--log", log, two_versions / "models"
    )
    assert code == 0
    assert "no units were captured: each request is a unit of its own" in err
    rows = read_log(log)
    assert [row["row"] for row in rows] == ["0", "1", "2"]
    assert [row["error"] for row in rows] == ["0", "", ""]
    assert {row["unit"] for row in rows} == {"r0"}


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("iris@2", "iris@canary", "is a label, which only a server knows"),
        ("iris@2", "iris@7", "model 'iris' has no version 7; there are: 1, 2"),
        ("iris@2", "rose", "no model named 'rose'"),
        ("[[metric]]", '[[targeting]]\nheader = "X-Country"\none_of = ["DE"]\n\n[[metric]]', "targets by a header"),
        ("[[metric]]", f"{LATENCY}[[metric]]", "does not tell a server's latency: leave the metric latency_us out"),
    ],
)
def test_an_experiment_that_cannot_be_run_on_a_capture_is_refused(inferd, two_versions, capture, old, new, reason):
    (two_versions / "e.toml").write_text(EXPERIMENT.replace(old, new, 1))
    log = two_versions / "log.csv"
    code, _, err = inferd(
        "replay", capture, "--experiment", two_versions / "e.toml", "--log", log, two_versions / "models"
    )
    assert code == 2
    assert reason in err
    assert not log.exists()


def test_an_experiment_needs_its_log_and_no_comparison(inferd, capture, models):
    for more in (["--log", "log.csv"], ["--experiment", "e.toml"]):
        code, _, err = inferd("replay", capture, models, *more)
        assert (code, "go together" in err) == (2, True)
