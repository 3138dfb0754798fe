"""Experiments defined, changed, started and stopped while a server runs, and after it was started again."""

import json
from threading import Event

import pytest

from inferd.core.errors import Conflict, ExperimentNotFound
from inferd.experiments.database import open_database
from inferd.experiments.definition_store import DefinitionStore
from inferd.experiments.definition_toml import experiment_of, values_of
from inferd.server.keys import append_key, new_key
from inferd.testing import Client
from ranker_support import MODEL

JSON = {"content-type": "application/json"}
ALL = "/admin/experiments"
ONE = f"{ALL}/ranker-2"
DEFINITION = {
    "id": "ranker-2",
    "model": "ranker",
    "unit": "header:X-User",
    "variant": [{"name": "control", "target": "ranker@1"}, {"name": "candidate", "target": "ranker@2"}],
    "metric": [{"name": "click", "kind": "mean", "min_effect": 0.05}],
}
TOML = """\
id = "from-file"
model = "ranker"
unit = "header:X-User"
coverage = 1.0
[namespace]
name = "home"
[[variant]]
name = "control"
target = "ranker@1"
[[variant]]
name = "candidate"
target = "ranker@2"
"""


@pytest.fixture
def folder(tmp_path):
    for version in (1, 2):
        (tmp_path / "ranker" / str(version)).mkdir(parents=True)
        (tmp_path / "ranker" / str(version) / "model.py").write_text(MODEL.replace("VERSION", str(version)))
    (tmp_path / "experiments").mkdir()
    return tmp_path


@pytest.fixture
def serve(folder):
    return lambda **more: Client(
        folder / "ranker", version_policy="all", experiments=str(folder / "experiments"), **more
    )


@pytest.fixture
def client(serve):
    with serve() as client:
        yield client


def send(client, method, path, body=None, status=200, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = client.request(method, path, b"" if body is None else json.dumps(body).encode(), {**JSON, **names})
    assert reply.status == status, reply.body
    return reply.json


def variant(client, user="a"):
    reply = client.post("/predict", b'{"instances": [[0]]}', {**JSON, "X-User": user})
    assert reply.status == 200
    return reply.headers.get("inferd-variant")


def test_an_experiment_is_defined_started_changed_and_archived_over_http(client):
    made = send(client, "POST", ALL, DEFINITION, 201)
    assert (made["state"], made["version"], made["defined_in"]) == ("stopped", 1, "the store")
    assert made["definition"]["metric"][0]["min_effect"] == 0.05
    assert variant(client) is None
    assert send(client, "POST", f"{ONE}/start")["state"] == "running"
    assert variant(client) is not None
    changed = send(client, "PUT", ONE, {**DEFINITION, "coverage": 0.5}, if_match='"1"')
    assert (changed["version"], changed["coverage"], changed["state"]) == (2, 0.5, "running")
    assert client.get(ONE).headers["etag"] == '"2"'
    assert send(client, "DELETE", ONE)["state"] == "archived"
    assert variant(client) is None
    assert send(client, "GET", ALL)["experiments"] == []
    assert send(client, "GET", f"{ALL}?archived=true")["experiments"][0]["state"] == "archived"
    assert client.get(f"{ONE}/report").status == 200
    for method, path, body in (("POST", f"{ONE}/start", None), ("POST", ALL, DEFINITION)):
        send(client, method, path, body, 409)
    send(client, "PUT", ONE, DEFINITION, 409, if_match="2")


def test_what_was_decided_survives_a_restart(serve, folder):
    (folder / "experiments" / "file.toml").write_text(TOML)
    with serve() as client:
        send(client, "POST", f"{ALL}/from-file/stop?why=too+slow")
        send(client, "POST", f"{ALL}?start=true", {**DEFINITION, "coverage": 0.75}, 201)
    with serve() as client:
        stopped = send(client, "GET", f"{ALL}/from-file")
        assert (stopped["state"], stopped["reason"]) == ("stopped", "too slow")
        kept = send(client, "GET", ONE)
        assert (kept["state"], kept["coverage"], kept["version"]) == ("running", 0.75, 1)


def test_each_change_is_told_with_who_what_and_from_and_to(serve, tmp_path):
    secret, entry = new_key("ops", ("inference", "admin"))
    keys = tmp_path / "keys.toml"
    append_key(keys, entry)
    with serve(api_keys_file=str(keys)) as client:
        key = {"x_api_key": secret}
        send(client, "POST", ALL, DEFINITION, 201, **key)
        metric = [{**DEFINITION["metric"][0], "min_effect": 0.1}]
        send(client, "PUT", ONE, {**DEFINITION, "metric": metric, "version": 1}, **key)
        send(client, "POST", f"{ONE}/start", **key)
        send(client, "POST", f"{ONE}/stop?why=enough", **key)
        send(client, "POST", f"{ONE}/stop?why=again", **key)
        history = send(client, "GET", f"{ONE}/history", **key)["history"]
    assert [(each["what"], each["version"], each["who"], each["why"]) for each in history] == [
        ("stopped", 2, "ops", "enough"),
        ("started", 2, "ops", ""),
        ("changed", 2, "ops", ""),
        ("created", 1, "ops", ""),
    ]
    assert (history[0]["from"], history[0]["to"]) == ({"state": "running"}, {"state": "stopped"})
    assert history[2]["from"]["metric"][0]["min_effect"] == 0.05
    assert history[2]["to"]["metric"][0]["min_effect"] == 0.1
    assert list(history[2]["to"]) == ["metric"]


def test_nobodys_change_is_lost(client):
    send(client, "POST", ALL, DEFINITION, 201)
    send(client, "PUT", ONE, DEFINITION, 422)
    send(client, "PUT", ONE, {**DEFINITION, "coverage": 0.5, "version": 1})
    refusal = send(client, "PUT", ONE, {**DEFINITION, "coverage": 0.1}, 409, if_match='"1"')
    assert "version 2 of" not in refusal["detail"]
    assert "version 2 is stored" in refusal["detail"]
    send(client, "DELETE", ONE, None, 409, if_match="1")
    assert send(client, "GET", ONE)["coverage"] == 0.5


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"variant": DEFINITION["variant"][:1]}, 400, "at least two variants"),
        ({"variant": [*DEFINITION["variant"][:1], {"name": "b", "target": "ranker@9"}]}, 400, "ranker@9 is not served"),
        ({"model": "nobody"}, 400, "no model 'nobody'"),
        ({"coverage": 2}, 400, "coverage takes a number from 0 to 1"),
        ({"coverage": 10**400}, 400, "coverage takes a finite number, got 1000"),
        ({"variant": [{"name": "a", "target": "ranker@1", "wieght": 1}]}, 400, "did you mean 'weight'?"),
        ({"variant": 7}, 400, "variant"),
        ({"id": ""}, 400, "id takes letters"),
        ({"version": 1}, 400, "unknown key 'version'"),
    ],
)
def test_a_wrong_definition_is_refused_with_the_reason(client, change, status, reason):
    assert reason in send(client, "POST", ALL, {**DEFINITION, **change}, status)["detail"]
    assert send(client, "GET", ALL)["experiments"] == []


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"[]", JSON, 422),
        (b"{", JSON, 400),
        (b'{"id": "\\ud800"}', JSON, 400),
        (b'{"coverage": 1e400}', JSON, 400),
        (b'{"id": "a"}', {"content-type": "text/plain"}, 415),
    ],
)
def test_a_body_that_is_no_definition_is_refused(client, body, headers, status):
    assert client.request("POST", ALL, body, headers).status == status


@pytest.mark.parametrize(
    ("tag", "given"), [('"x"', None), ("9" * 30, None), ("", "1"), ("", 0), ("", 2**40), ("", 1.5)]
)
def test_a_version_that_is_none_is_refused(client, tag, given):
    send(client, "POST", ALL, DEFINITION, 201)
    body = DEFINITION if given is None else {**DEFINITION, "version": given}
    send(client, "PUT", ONE, body, 422, **({"if_match": tag} if tag else {}))


def test_a_put_under_another_id_is_refused(client):
    send(client, "POST", ALL, DEFINITION, 201)
    send(client, "PUT", ONE, {**DEFINITION, "id": "other"}, 422, if_match="1")
    send(client, "PUT", f"{ALL}/other", {**DEFINITION, "id": "other"}, 404, if_match="1")


def test_units_that_were_assigned_keep_their_variants(client):
    send(client, "POST", f"{ALL}?start=true", DEFINITION, 201)
    reply = client.post("/predict", b'{"instances": [[0]]}', {**JSON, "X-User": "a"})
    outcome = {"prediction_id": reply.headers["inferd-prediction-id"], "metric": "click", "value": 1}
    send(client, "POST", "/feedback", outcome)  # waits for the exposure to be stored
    weights = [{**each, "weight": 2 + number} for number, each in enumerate(DEFINITION["variant"])]
    refusal = send(client, "PUT", ONE, {**DEFINITION, "variant": weights}, 409, if_match="1")
    assert "its variant cannot change" in refusal["detail"]
    send(client, "PUT", ONE, {**DEFINITION, "coverage": 0.1}, if_match="1")


def test_a_file_wins_and_is_changed_in_the_file(serve, folder):
    taken = {**DEFINITION, "id": "from-file"}
    with serve() as client:
        send(client, "POST", ALL, taken, 201)
    (folder / "experiments" / "file.toml").write_text(TOML)
    with serve() as client:
        found = send(client, "GET", f"{ALL}/from-file")
        assert (found["defined_in"], found["version"], found["state"]) == ("file.toml", 2, "stopped")
        for method, path in (("PUT", f"{ALL}/from-file"), ("DELETE", f"{ALL}/from-file"), ("POST", ALL)):
            refusal = send(client, method, path, {**taken, **({"version": 2} if method == "PUT" else {})}, 409)
            assert method == "POST" or "file.toml" in refusal["detail"]
        assert send(client, "POST", f"{ALL}/from-file/start")["state"] == "running"
    (folder / "experiments" / "file.toml").write_text(TOML.replace("coverage = 1.0", "coverage = 0.5"))
    with serve() as client:
        found = send(client, "GET", f"{ALL}/from-file")
        assert (found["version"], found["state"], found["coverage"]) == (3, "running", 0.5)
        last = send(client, "GET", f"{ALL}/from-file/history")["history"][0]
        assert (last["who"], last["from"], last["to"]) == ("file.toml", {"coverage": 1.0}, {"coverage": 0.5})
    (folder / "experiments" / "file.toml").unlink()
    with serve() as client:
        assert send(client, "GET", ALL)["experiments"] == []


def test_experiments_that_share_units_do_not_run_together(client):
    send(client, "POST", f"{ALL}?start=true", DEFINITION, 201)
    other = {**DEFINITION, "id": "other"}
    assert "runs on 'ranker' already" in send(client, "POST", f"{ALL}?start=true", other, 400)["detail"]
    send(client, "POST", ALL, other, 201)
    send(client, "POST", f"{ALL}/other/start", None, 409)
    send(client, "POST", f"{ONE}/stop")
    assert send(client, "POST", f"{ALL}/other/start")["state"] == "running"


def test_a_decision_on_one_server_is_followed_by_the_other(serve):
    with serve() as one, serve() as other:
        seen = Event()
        registry = other.assembly.experiments.registry
        follow = other.assembly.experiments.control.follow
        follower = other.assembly.experiments._follower

        def look():
            follower._look()
            other._loop.call_soon_threadsafe(seen.set)
            assert seen.wait(10)
            seen.clear()

        assert follower._follow == follow
        send(one, "POST", f"{ALL}?start=true", DEFINITION, 201)
        look()
        assert variant(other) is not None
        send(one, "PUT", ONE, {**DEFINITION, "coverage": 0.5}, if_match="1")
        look()
        assert registry.get("ranker-2").experiment.coverage == 0.5
        send(one, "POST", f"{ONE}/stop")
        look()
        assert (registry.get("ranker-2").state, variant(other)) == ("stopped", None)
        send(one, "DELETE", ONE)
        look()
        assert registry.get("ranker-2").state == "archived"


def test_a_dead_database_stops_no_kill_switch(folder, postgresql):
    postgresql.psql("CREATE DATABASE switch;")
    with Client(
        folder / "ranker", version_policy="all", experiment_store=postgresql.get_uri(database="switch")
    ) as client:
        send(client, "POST", f"{ALL}?start=true", DEFINITION, 201)
        postgresql.psql("ALTER DATABASE switch ALLOW_CONNECTIONS false;")
        postgresql.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'switch';")
        send(client, "POST", f"{ONE}/stop", None, 503)
        assert variant(client) is None
        send(client, "POST", f"{ONE}/start", None, 503)
        send(client, "GET", f"{ONE}/history", None, 503)
        assert variant(client) is None
        postgresql.psql("ALTER DATABASE switch ALLOW_CONNECTIONS true;")
        send(client, "POST", f"{ONE}/stop")
        assert len(send(client, "GET", f"{ONE}/history")["history"]) == 2


@pytest.fixture
def decided(url):
    engine = open_database(url)
    yield DefinitionStore(engine)
    engine.dispose()


def test_a_definition_comes_back_from_the_store_as_it_went_in(decided, define):
    experiment = define(
        add='[namespace]\nname = "n"\nstart = 0.5\n[holdout]\nshare = 0.1\n'
        '[[targeting]]\nheader = "X-Country"\none_of = ["DE", "FR"]\n'
        '[[guardrail]]\nmetric = "converted"\nmargin = 0.1\n[analysis]\nalpha = 0.01\n'
    )
    assert experiment_of(values_of(experiment)) == experiment
    decided.create(experiment, "stopped", "me")
    assert experiment_of(decided.all()[0].values) == experiment


def test_the_store_refuses_what_is_not_there_or_is_over(decided, define):
    experiment = define()
    with pytest.raises(ExperimentNotFound):
        decided.replace(experiment, 1, "me")
    with pytest.raises(ExperimentNotFound):
        decided.set_state(experiment.id, "stopped", "me", "")
    decided.create(experiment, "running", "me")
    with pytest.raises(Conflict, match="already"):
        decided.create(experiment, "running", "me")
    decided.set_state(experiment.id, "archived", "me", "")
    for refused in (
        lambda: decided.set_state(experiment.id, "running", "me", ""),
        lambda: decided.replace(experiment, 1, "me"),
    ):
        with pytest.raises(Conflict, match="archived"):
            refused()
    assert decided.last_change() == 2


def test_a_file_is_adopted_once(decided, define):
    first = decided.adopt(define(), "a.toml")
    assert (first.version, first.state) == (1, "running")
    assert decided.adopt(define(), "a.toml") == first
    assert decided.last_change() == 1
    assert decided.adopt(define(), "b.toml").version == 2
