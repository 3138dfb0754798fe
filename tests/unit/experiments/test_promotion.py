"""A variant is given to everyone when the report says so, and by force otherwise."""

import json

import pytest

from inferd.testing import Client
from ranker_support import MODEL

EXPERIMENT = """\
id = "ranker-2"
model = "ranker"
unit = "header:X-User"

[[variant]]
name = "control"
target = "ranker@1"

[[variant]]
name = "candidate"
target = "ranker@2"

[[metric]]
name = "click"
kind = "mean"
"""
JSON = {"content-type": "application/json"}
PROMOTE = "/admin/experiments/ranker-2/promote"


@pytest.fixture
def client(tmp_path):
    for version in (1, 2):
        (tmp_path / "ranker" / str(version)).mkdir(parents=True)
        (tmp_path / "ranker" / str(version) / "model.py").write_text(MODEL.replace("VERSION", str(version)))
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "ranker.toml").write_text(EXPERIMENT)
    folder = str(tmp_path / "experiments")
    with Client(tmp_path / "ranker", version_policy="all", experiments=folder) as client:
        yield client


def collect(client, value_of):
    for number in range(240):
        reply = client.post("/predict", b'{"instances": [[0]]}', {**JSON, "X-User": f"user-{number}"})
        value = value_of(reply.json["predictions"][0], number)
        outcome = {"prediction_id": reply.headers["inferd-prediction-id"], "metric": "click", "value": value}
        assert client.post("/feedback", json.dumps(outcome).encode(), JSON).status == 200


def promote(client, status=200, **body):
    reply = client.post(PROMOTE, json.dumps(body).encode(), JSON)
    assert reply.status == status, reply.body
    return reply.json


def versions(client, path="/predict"):
    return {client.post(path, b'{"instances": [[0]]}', JSON).json["predictions"][0] for _ in range(20)}


def test_a_better_variant_is_given_to_everyone_and_the_experiment_ends(client):
    collect(client, lambda version, number: version * 10 + number % 3)
    answer = promote(client, variant="candidate", label="stable")
    assert (answer["version"], answer["forced"]) == (2, False)
    assert client.get("/admin/models/ranker").json["labels"] == {"stable": 2}
    assert versions(client, "/models/ranker/versions/stable/predict") == {2}
    described = client.get("/admin/experiments/ranker-2").json
    assert described["state"] == "promoted"
    assert described["reason"] == "candidate, version 2, promoted to label stable"


def test_without_a_label_the_version_is_served_alone(client):
    collect(client, lambda version, number: -version * 10 + number % 3)
    assert promote(client, variant="control")["version"] == 1
    assert versions(client) == {1}
    assert client.get("/admin/models/ranker").json["policy"] == "1"


def test_one_that_is_worse_or_not_known_to_be_better_needs_force(client):
    refused = promote(client, 409, variant="candidate", label="stable")
    assert "not shown to be better" in refused["detail"]
    collect(client, lambda version, number: -version * 10 + number % 3)
    refused = promote(client, 409, variant="candidate", label="stable")
    assert "click: worse" in refused["detail"]
    assert client.get("/admin/models/ranker").json["labels"] == {}
    forced = promote(client, variant="candidate", label="stable", force=True)
    assert forced["forced"]
    assert client.get("/admin/experiments/ranker-2").json["reason"].endswith("(forced)")


@pytest.mark.parametrize(
    "body", [{}, {"variant": "other"}, {"variant": "candidate", "force": "perhaps"}, {"variant": "candidate", "x": 1}]
)
def test_what_makes_no_sense_is_refused(client, body):
    promote(client, 422, **body)
