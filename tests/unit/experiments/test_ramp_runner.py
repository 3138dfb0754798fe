"""Ramps on a server: a bad candidate is rolled back, a harmless one goes to everyone, and every step is told."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from inferd.experiments.ramp_runner import Notice
from inferd.server.webhook import Webhooks
from inferd.testing import Client

MODEL = """
import numpy as np

class Model:
    inputs = {"x": "FP32[-1, 1]"}
    outputs = {"version": "INT64[-1]"}
    batchable = True

    def predict(self, x: np.ndarray) -> np.ndarray:
        if VERSION == 2 and (x % 5 == 4).any():
            raise ValueError("broken")
        return np.full(len(x), VERSION)
"""
DEFINITION = {
    "id": "ranker-2",
    "model": "ranker",
    "unit": "header:X-User",
    "mode": "ramp",
    "variant": [{"name": "control", "target": "ranker@1"}, {"name": "candidate", "target": "ranker@3"}],
    "ramp": {"label": "default"},
    "step": [{"coverage": 0.3}, {"coverage": 1.0, "units": 100}],
    "guardrail": [{"metric": "error", "limit": 0.05}],
}
JSON = {"content-type": "application/json"}
ALL = "/admin/experiments"
ONE = f"{ALL}/ranker-2"


@pytest.fixture
def folder(tmp_path):
    for version in (1, 2, 3):
        (tmp_path / "ranker" / str(version)).mkdir(parents=True)
        (tmp_path / "ranker" / str(version) / "model.py").write_text(MODEL.replace("VERSION", str(version)))
    (tmp_path / "experiments").mkdir()
    return tmp_path


@pytest.fixture
def serve(folder):
    """A server whose callers get version 1 unless they name another."""

    @contextmanager
    def serve():
        with Client(folder / "ranker", version_policy="all", experiments=str(folder / "experiments")) as client:
            client._run(client.assembly.control.set_label("ranker", "default", 1, ""))
            yield client

    return serve


@pytest.fixture
def client(serve):
    with serve() as client:
        yield client


def bad(**changes):
    variants = [DEFINITION["variant"][0], {"name": "candidate", "target": "ranker@2"}]
    return {**DEFINITION, "variant": variants, **changes}


def send(client, method, path, body=None, status=200):
    reply = client.request(method, path, b"" if body is None else json.dumps(body).encode(), JSON)
    assert reply.status == status, reply.body
    return reply.json


def begin(client, definition=DEFINITION):
    send(client, "POST", f"{ALL}?start=true", definition, 201)


def ask(client, users):
    """The variants that users got; ``None`` for those who took no part."""
    replies = [client.predict([[user]], headers={"X-User": f"u-{user}"}) for user in users]
    return [reply.headers.get("inferd-variant") for reply in replies]


def look(client):
    """What the ramp decides now."""
    experiments = client.assembly.experiments
    return client._run(experiments.ramps.look(experiments.registry.get("ranker-2")))


def told(client):
    history = send(client, "GET", f"{ONE}/history")["history"]
    return [(each["what"], each["who"]) for each in reversed(history)]


def test_a_candidate_with_20_percent_errors_is_rolled_back_at_the_first_look(client):
    begin(client, bad(step=[{"coverage": 1.0, "minutes": 60}]))
    ask(client, range(200))
    decision = look(client)
    assert decision.action == "roll back"
    entry = send(client, "GET", ONE)
    assert entry["state"] == "stopped"
    assert "error: broken: candidate is above 0.05" in entry["reason"]
    assert told(client)[-1] == ("rolled back", "ramp")
    assert set(ask(client, range(20))) == {None}


def test_a_harmless_candidate_climbs_and_is_given_to_everyone(client):
    begin(client)
    first = ask(client, range(300))
    assert 60 < sum(variant is not None for variant in first) < 120
    assert look(client).action == "advance"
    entry = send(client, "GET", ONE)
    assert (entry["coverage"], entry["ramp"]["step"], entry["ramp"]["steps"]) == (1.0, 2, 2)
    then = ask(client, range(300))
    assert None not in then
    assert [after for before, after in zip(first, then, strict=True) if before] == [each for each in first if each]
    assert look(client).action == "promote"
    assert send(client, "GET", "/admin/models/ranker")["labels"] == {"default": 3}
    entry = send(client, "GET", ONE)
    assert (entry["state"], entry["reason"].partition(":")[0]) == (
        "promoted",
        "candidate, version 3, promoted to label default",
    )
    assert told(client) == [("created", ""), ("advanced", "ramp"), ("promoted", "ramp")]
    assert look(client) is None or send(client, "GET", ONE)["state"] == "promoted"


def test_a_ramp_does_not_begin_where_those_who_take_no_part_would_not_get_control(client):
    client._run(client.assembly.control.remove_label("ranker", "default", ""))
    refusal = send(client, "POST", f"{ALL}?start=true", DEFINITION, 400)
    assert "who takes no part gets version 3 of 'ranker', not control's ranker@1" in refusal["detail"]
    assert "run inferd models label ranker default 1 first" in refusal["detail"]


def test_who_takes_no_part_and_everyone_after_a_roll_back_gets_control(client):
    begin(client, bad())
    versions = {
        (reply.headers.get("inferd-variant"), reply.headers["inferd-model-version"])
        for reply in (client.predict([[0]], headers={"X-User": f"u-{user}"}) for user in range(100))
    }
    assert versions == {(None, "1"), ("control", "1"), ("candidate", "2")}
    ask(client, range(600))
    assert look(client).action == "roll back"
    assert {client.predict([[0]]).headers["inferd-model-version"] for _ in range(20)} == {"1"}


def test_without_enough_predictions_to_be_sure_it_waits_at_the_last_step(client):
    begin(client, {**DEFINITION, "step": [{"coverage": 1.0}]})
    ask(client, range(20))
    decision = look(client)
    assert (decision.action, "not shown yet" in decision.why) == ("wait", True)
    assert told(client) == [("created", "")]


def test_a_ramp_that_is_held_says_why_and_goes_on_when_the_reason_is_gone(client):
    begin(client)
    client._run(client.assembly.control.unload("ranker", 3, ""))
    client._run(client.assembly.control.settled("ranker"))
    assert look(client).action == "hold"
    assert look(client).action == "hold"
    entry = send(client, "GET", ONE)
    assert (entry["state"], entry["ramp"]["held"]) == ("running", True)
    assert "nothing that is ready answers to ranker@3" in entry["reason"]
    client._run(client.assembly.control.load("ranker", 3, ""))
    client._run(client.assembly.control.settled("ranker"))
    assert look(client).action == "advance"
    entry = send(client, "GET", ONE)
    assert (entry["ramp"]["held"], entry["ramp"]["step"], entry.get("reason")) == (False, 2, None)
    assert told(client) == [("created", ""), ("held", "ramp"), ("advanced", "ramp")]


def test_a_broken_guardrail_that_holds_keeps_the_candidate_where_it_is(client):
    begin(client, bad(guardrail=[{"metric": "error", "limit": 0.05, "action": "hold"}]))
    ask(client, range(600))
    assert look(client).action == "hold"
    assert send(client, "GET", ONE)["ramp"] | {"step_since_ms": 0, "started_ms": 0} == {
        "step": 1,
        "steps": 2,
        "step_since_ms": 0,
        "started_ms": 0,
        "held": True,
    }
    assert send(client, "POST", f"{ONE}/advance")["ramp"]["step"] == 2
    assert told(client) == [("created", ""), ("held", "ramp"), ("advanced", "")]
    refusal = send(client, "POST", f"{ONE}/advance", None, 409)
    assert "has no step to go on to" in refusal["detail"]


def test_a_broken_guardrail_that_only_tells_is_told_once(client):
    begin(client, bad(guardrail=[{"metric": "error", "limit": 0.05, "action": "notify"}]))
    ask(client, range(600))
    assert look(client).action == "advance"
    look(client)
    assert [what for what, _ in told(client)] == ["created", "warned", "advanced"]


def test_a_ramp_stands_where_it_stood_after_a_restart(serve):
    with serve() as client:
        begin(client)
        look(client)
        before = send(client, "GET", ONE)["ramp"]
    with serve() as client:
        assert send(client, "GET", ONE)["ramp"] == before
        assert send(client, "GET", ONE)["coverage"] == 1.0


def test_a_ramp_that_is_started_again_begins_anew_and_forgets_what_the_old_run_saw(client):
    begin(client, bad())
    ask(client, range(600))
    assert look(client).action == "roll back"
    assert send(client, "GET", f"{ONE}/report")["units"] > 100
    send(client, "POST", f"{ONE}/start")
    entry = send(client, "GET", ONE)
    assert (entry["state"], entry["ramp"]["step"], entry["coverage"]) == ("running", 1, 0.3)
    assert send(client, "GET", f"{ONE}/report")["units"] == 0
    assert look(client).action == "advance"


def test_what_one_server_promotes_the_other_gives_to_everyone_too(serve):
    with serve() as one, serve() as other:
        begin(one, {**DEFINITION, "step": [{"coverage": 1.0}]})
        followed(other)
        ask(one, range(250))
        assert look(one).action == "promote"
        followed(other)
        assert send(other, "GET", ONE)["state"] == "promoted"
        other._run(other.assembly.control.settled("ranker"))
        assert send(other, "GET", "/admin/models/ranker")["labels"] == {"default": 3}


def followed(client):
    """Return when what another server decided was done here."""
    experiments = client.assembly.experiments
    stored = experiments._follower._store.all()

    async def follow():
        experiments.control.follow(stored)
        for task in tuple(experiments.control._giving):
            await task

    client._run(follow())


def test_of_two_servers_that_decide_at_once_one_does_it(serve):
    with serve() as one, serve() as other:
        begin(one)
        followed(other)
        assert look(one).action == "advance"
        assert look(other).action == "advance"
        assert told(one) == [("created", ""), ("advanced", "ramp")]
        followed(other)
        assert send(other, "GET", ONE)["ramp"]["step"] == 2


def test_what_cannot_be_promoted_is_held_with_the_reason(folder, serve):
    (folder / "ranker" / "model.toml").write_text('[lifecycle]\nversion_policy = "all"\n')
    with serve() as client:
        begin(client, {**DEFINITION, "ramp": {}, "step": [{"coverage": 1.0}]})
        ask(client, range(250))
        assert look(client).action == "promote"
        entry = send(client, "GET", ONE)
        assert (entry["state"], entry["ramp"]["held"]) == ("running", True)
        assert "it cannot be promoted: the version policy of 'ranker' is defined in its model.toml" in entry["reason"]


def test_a_harmless_candidate_of_a_ramp_is_promoted_by_hand_though_it_is_no_better(client):
    begin(client, {**DEFINITION, "ramp": {"finish": "hold"}, "step": [{"coverage": 1.0}]})
    ask(client, range(250))
    assert look(client).action == "hold"
    answer = send(client, "POST", f"{ONE}/promote", {"variant": "candidate", "label": "default"})
    assert (answer["forced"], answer["version"]) == (False, 3)


@pytest.fixture
def hook():
    """A real server for webhooks: its URL, what it was told, and how it answers."""
    answers, bodies, heard = [], [], threading.Semaphore(0)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            bodies.append((self.headers["content-type"], json.loads(body)))
            self.send_response(answers.pop(0) if answers else 204)
            self.end_headers()
            heard.release()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", bodies, answers, heard
    server.shutdown()
    server.server_close()


def test_each_move_is_posted_to_the_webhook(client, hook):
    url, bodies, _, heard = hook
    begin(client, bad(ramp={"webhook": url}))
    look(client)
    ask(client, range(300))
    assert look(client).action == "roll back"
    assert heard.acquire(timeout=10)
    assert heard.acquire(timeout=10)
    (kind, first), (_, second) = bodies
    assert kind == "application/json"
    assert (first["event"], first["coverage"], first["step"]) == ("advanced", 1.0, 1)
    assert (second["experiment"], second["event"], second["variant"]) == ("ranker-2", "rolled back", "candidate")
    assert "above 0.05" in second["why"]


def test_a_webhook_that_fails_is_tried_again(hook):
    url, bodies, answers, heard = hook
    answers += [500, 503]
    webhooks = Webhooks(pauses_s=(0, 0))
    webhooks.notify(url, Notice("e", "m", "candidate", "held", "why", 0, 0.1, 5))
    for _ in range(3):
        assert heard.acquire(timeout=10)
    webhooks.close()
    assert len(bodies) == 3


def test_a_webhook_that_is_not_there_is_given_up_and_told_in_the_log(caplog):
    webhooks = Webhooks(pauses_s=(0,))
    webhooks.notify("http://127.0.0.1:1/", Notice("e", "m", "candidate", "held", "why", 0, 0.1, 5))
    webhooks._threads.shutdown(wait=True)
    assert "the webhook of experiment e was not told: held" in caplog.text
