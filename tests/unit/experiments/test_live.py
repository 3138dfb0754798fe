"""Experiments on a running server's traffic."""

import json

import numpy as np
import pytest

from inferd.core.errors import ConfigError, Conflict, ExperimentNotFound
from inferd.experiments.assignment import Assigner
from inferd.experiments.definition import Experiment, Namespace, Targeting, Variant
from inferd.experiments.events import hash_unit
from inferd.experiments.registry import ExperimentRegistry, read_folder
from inferd.testing import Client

MODEL = """
import numpy as np

class Model:
    inputs = {"x": "FP32[-1, 1]"}
    outputs = {"version": "INT64[-1]"}
    batchable = True

    def predict(self, x: np.ndarray) -> np.ndarray:
        if (x < 0).any():
            raise ValueError("broken")
        return np.full(len(x), VERSION)
"""
OTHER = MODEL.replace("FP32[-1, 1]", "FP32[-1, 2]")
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    for version, code in {1: MODEL, 2: MODEL, 3: OTHER}.items():
        (folder / "ranker" / str(version)).mkdir(parents=True)
        (folder / "ranker" / str(version) / "model.py").write_text(code.replace("VERSION", str(version)))
    with Client(folder, version_policy="all") as client:
        yield client


def experiment(**changes):
    values = {
        "id": "ranker-2",
        "model": "ranker",
        "unit": "header:X-User",
        "salt": "ranker-2",
        "variants": (Variant("control", "ranker@1"), Variant("candidate", "ranker@2")),
        **changes,
    }
    return Experiment(**values)


@pytest.fixture
def registry(client):
    exposures = []
    registry = ExperimentRegistry(client.assembly.engine, exposures.append)
    registry.exposures = exposures
    yield registry
    client.assembly.engine.policies = {}


def ask(client, user=None, path="/predict", value=0, **parameters):
    headers = {**JSON, **({"X-User": user} if user else {})}
    body = {"instances": [[value]], **({"parameters": parameters} if parameters else {})}
    return client.post(path, json.dumps(body).encode(), headers)


def test_each_unit_gets_its_variant_and_the_answer_says_so(client, registry):
    registry.add(experiment(), "")
    assigner = Assigner(experiment())
    seen = set()
    for number in range(40):
        user = f"user-{number}"
        variant = assigner.assign(user).variant
        for path in ("/predict", "/models/ranker/predict"):
            reply = ask(client, user, path)
            assert reply.json["predictions"] == [int(variant.target[-1])]
            assert reply.headers["inferd-variant"] == variant.name
            assert reply.headers["inferd-experiment"] == "ranker-2"
            assert reply.headers["inferd-model-version"] == variant.target[-1]
            assert reply.headers["inferd-sticky"] == "true"
        seen.add(variant.name)
    assert seen == {"control", "candidate"}
    assert len({exposure.prediction_id for exposure in registry.exposures}) == 80
    first = registry.exposures[0]
    assert (first.unit, first.outcome, first.sticky) == (hash_unit("ranker-2", "user-0"), "ok", True)
    assert "user" not in repr(registry.exposures)


def test_prediction_ids_are_uuid7_and_sort_by_time(client, registry):
    registry.add(experiment(), "")
    ids = [ask(client, "a").headers["inferd-prediction-id"] for _ in range(3)]
    assert all(each[14] == "7" and each[19] in "89ab" for each in ids)
    assert [each[:13] for each in ids] == sorted(each[:13] for each in ids)


def test_a_version_asked_by_name_is_no_experiment(client, registry):
    registry.add(experiment(), "")
    reply = ask(client, "a", "/models/ranker/versions/2/predict")
    assert "inferd-variant" not in reply.headers
    assert registry.exposures == []


def test_a_caller_without_the_unit_is_assigned_by_request_and_marked(client, registry):
    registry.add(experiment(), "")
    variants = {ask(client).headers["inferd-variant"] for _ in range(40)}
    assert variants == {"control", "candidate"}
    assert not any(exposure.sticky for exposure in registry.exposures)


@pytest.mark.parametrize(
    ("unit", "headers", "parameters"),
    [
        ("cookie:session", {"cookie": "a=b; session=user-7; c=d"}, {}),
        ("parameter:user", {}, {"user": "user-7"}),
        ("header:x-user", {"X-USER": "user-7"}, {}),
    ],
)
def test_the_unit_comes_from_where_the_experiment_says(client, registry, unit, headers, parameters):
    registry.add(experiment(unit=unit), "")
    body = {"instances": [[0]], **({"parameters": parameters} if parameters else {})}
    reply = client.post("/predict", json.dumps(body).encode(), {**JSON, **headers})
    expected = Assigner(experiment()).assign("user-7").variant.name
    assert (reply.status, reply.headers.get("inferd-variant")) == (200, expected), reply.body
    assert reply.headers["inferd-sticky"] == "true"


def test_targeting_and_coverage_leave_others_alone(client, registry):
    registry.add(experiment(targeting=(Targeting(("DE",), header="X-Country"),)), "")
    assert "inferd-variant" not in ask(client, "a").headers
    assert (
        "inferd-variant"
        in client.post("/predict", b'{"instances": [[0]]}', {**JSON, "X-User": "a", "X-Country": "DE"}).headers
    )
    assert registry.get("ranker-2").live.unassigned == {"targeting": 1}


def test_errors_are_exposures_too(client, registry):
    registry.add(experiment(), "")
    assert ask(client, "a", value=-1).status == 500
    assert ask(client, "a", value="text").status == 422
    assert [exposure.outcome for exposure in registry.exposures] == ["internal", "invalid_argument"]
    assert ask(client, "a", value="text").headers["inferd-variant"]


def test_a_variant_that_is_not_ready_falls_back_to_control_and_is_counted(client, registry):
    entry = registry.add(experiment(), "")
    engine = client.assembly.engine
    table = engine.table
    ticketless = {target: ticket for target, ticket in table.tickets.items() if target.version != 2}
    engine.table = type(table)(table.statuses, table.default_model)
    engine.table.tickets = ticketless
    try:
        user = next(f"u{n}" for n in range(99) if Assigner(experiment()).assign(f"u{n}").variant.name == "candidate")
        reply = ask(client, user)
    finally:
        engine.table = table
    assert (reply.json["predictions"], reply.headers["inferd-variant"]) == ([1], "control")
    assert entry.live.fallbacks == {"candidate": 1}
    assert (registry.exposures[0].variant, registry.exposures[0].outcome) == ("candidate", "fallback")


def test_the_kill_switch_sends_everyone_to_the_usual_version(client, registry):
    registry.add(experiment(), "")
    registry.stop("ranker-2", "enough")
    registry.stop("ranker-2", "again")
    assert "inferd-variant" not in ask(client, "a").headers
    assert registry.get("ranker-2").reason == "enough"
    registry.start("ranker-2")
    assert "inferd-variant" in ask(client, "a").headers


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "nobody"}, "no model 'nobody'"),
        ({"variants": (Variant("a", "ranker@1"), Variant("b", "ranker@9"))}, "ranker@9 is not served"),
        ({"variants": (Variant("a", "ranker@1"), Variant("b", "ranker@3"))}, "another signature"),
    ],
)
def test_an_experiment_that_cannot_run_is_kept_with_the_reason(client, registry, changes, reason):
    entry = registry.add(experiment(**changes), "")
    assert entry.state == "invalid"
    assert reason in entry.reason
    assert "inferd-variant" not in ask(client, "a").headers
    with pytest.raises(Conflict):
        registry.start("ranker-2")


def test_two_experiments_on_a_model_share_no_unit(client, registry):
    registry.add(experiment(), "")
    assert registry.add(experiment(id="other", salt="other"), "").state == "invalid"
    registry.stop("ranker-2", "")
    halves = [Namespace("home", 0, 0.5), Namespace("home", 0.5, 1)]
    entries = [registry.add(experiment(id=f"e{n}", salt=f"e{n}", namespace=each), "") for n, each in enumerate(halves)]
    assert [entry.state for entry in entries] == ["running", "running"]
    seen = {user: {ask(client, user).headers["inferd-experiment"] for _ in range(2)} for user in map(str, range(40))}
    assert all(len(each) == 1 for each in seen.values())
    assert set.union(*seen.values()) == {"e0", "e1"}


def test_an_unknown_experiment_is_told_with_those_there_are(registry):
    with pytest.raises(ExperimentNotFound, match="there are: none"):
        registry.get("nobody")


def test_a_folder_of_experiments_is_read_and_twins_refused(tmp_path):
    text = 'id = "a"\nmodel = "m"\nunit = "api-key"\n'
    text += "".join(f'[[variant]]\nname = "{name}"\ntarget = "m"\n' for name in "xy")
    (tmp_path / "one.toml").write_text(text)
    ((found, origin),) = read_folder(tmp_path)
    assert (found.id, origin) == ("a", str(tmp_path / "one.toml"))
    (tmp_path / "two.toml").write_text(text)
    with pytest.raises(ConfigError, match="too"):
        read_folder(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        read_folder(tmp_path / "nowhere")


def test_batches_never_mix_versions(client, registry):
    registry.add(experiment(), "")
    replies = [ask(client, f"user-{number}") for number in range(50)]
    assert {(reply.headers["inferd-model-version"], reply.json["predictions"][0]) for reply in replies} == {
        ("1", 1),
        ("2", 2),
    }
    np.testing.assert_equal(len(registry.exposures), 50)
