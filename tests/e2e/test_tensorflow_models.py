"""A repository as TF Serving has it, served by a real process."""

import json
import shutil

import numpy as np
import pytest
from serve_support import EXAMPLES, Process

import tensorflow_builders

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensorflow")
    built = tensorflow_builders.saved_model(folder)
    (folder / "models" / "iris").mkdir(parents=True)
    built.artefact.rename(folder / "models" / "iris" / "1")
    with Process(folder, "serve", folder / "models", "--default-model", "iris", "--grpc-port", "0") as process:
        process.wait_ready()
        yield process, built


def ask(process, path, body):
    status, _, answer = process.ask("POST", path, json.dumps(body), JSON)
    assert status == 200, answer
    return json.loads(answer)


def test_the_default_signature_answers_every_protocol_alike(served):
    process, built = served
    rows = built.inputs["x"].tolist()
    native = ask(process, "/predict", {"instances": rows})["predictions"]
    assert native == ask(process, "/v1/models/iris:predict", {"instances": rows})["predictions"]
    assert [each["label"].encode() for each in native] == built.expected["label"].tolist()
    assert np.allclose([each["probabilities"] for each in native], built.expected["probabilities"], atol=1e-5)
    results = ask(process, "/v1/models/iris:classify", {"examples": [{"x": row} for row in rows]})["results"]
    assert [len(result) for result in results] == [3] * len(rows)


def test_another_signature_is_chosen_by_its_name(served):
    process, _ = served
    body = {"signature_name": "lengths", "instances": ["four", {"b64": "/w=="}]}
    assert ask(process, "/v1/models/iris:predict", body) == {"predictions": [4, 1]}
    metadata = json.loads(process.ask("GET", "/v1/models/iris/metadata")[2])
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "lengths"}
    assert signatures["lengths"]["inputs"]["text"]["dtype"] == "DT_STRING"


def test_a_pytorch_model_may_follow_in_the_same_process(served):
    process, _ = served
    shutil.copytree(EXAMPLES / "digits", process.log.parent / "models" / "digits")
    described = ask(process, "/admin/models/digits/load", {})
    assert [each["state"] for each in described["versions"]] == ["READY"]
