"""Bandits on a server: rewards move requests to the better variant, and every move is told."""

import asyncio
import json
from collections import Counter
from contextlib import contextmanager

import pytest

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
DEFINITION = {
    "id": "ranker-2",
    "model": "ranker",
    "mode": "bandit",
    "variant": [{"name": "control", "target": "ranker@1"}, {"name": "candidate", "target": "ranker@2"}],
    "metric": [{"name": "click", "kind": "proportion"}],
    "bandit": {"reward": "click", "explore": 0.2, "warm_up": 20},
}
JSON = {"content-type": "application/json"}
ALL = "/admin/experiments"
ONE = f"{ALL}/ranker-2"


@pytest.fixture
def folder(tmp_path):
    for version in (1, 2):
        (tmp_path / "ranker" / str(version)).mkdir(parents=True)
        (tmp_path / "ranker" / str(version) / "model.py").write_text(MODEL.replace("VERSION", str(version)))
    (tmp_path / "experiments").mkdir()
    return tmp_path


@pytest.fixture
def serve(folder):
    @contextmanager
    def serve():
        with Client(folder / "ranker", version_policy="all", experiments=str(folder / "experiments")) as client:
            yield client

    return serve


@pytest.fixture
def client(serve):
    with serve() as client:
        yield client


def defined(**changes):
    return {**DEFINITION, "bandit": {**DEFINITION["bandit"], **changes}}


def send(client, method, path, body=None, status=200):
    reply = client.request(method, path, b"" if body is None else json.dumps(body).encode(), JSON)
    assert reply.status == status, reply.body
    return reply.json


def begin(client, definition=DEFINITION):
    send(client, "POST", f"{ALL}?start=true", definition, 201)


def ask(client, count, **headers):
    """How many of the requests got which variant."""
    replies = [client.predict([[number]], headers=headers) for number in range(count)]
    return Counter(reply.headers.get("inferd-variant") for reply in replies)


def earn(client, count, clicks=lambda number, variant: variant == "candidate", **headers):
    """Ask and tell at once what came of it."""
    told = []
    for number in range(count):
        reply = client.predict([[number]], headers=headers)
        variant, prediction = reply.headers["inferd-variant"], reply.headers["inferd-prediction-id"]
        told.append({"prediction_id": prediction, "metric": "click", "value": float(clicks(number, variant))})
    send(client, "POST", "/feedback", told)


def look(client):
    """What the bandit has learned now."""
    experiments = client.assembly.experiments
    return client._run(experiments.bandits.look(experiments.registry.get("ranker-2")))


def shares(client):
    return {each["name"]: each["share"] for each in send(client, "GET", ONE)["variants"]}


def told(client):
    history = send(client, "GET", f"{ONE}/history")["history"]
    return [(each["what"], each["who"]) for each in reversed(history)]


def test_requests_go_to_the_variant_that_earns_more(client):
    begin(client)
    earn(client, 120)
    assert look(client).rewards == tuple(
        send(client, "GET", f"{ONE}/report")["variants"][arm]["rewards"] for arm in (0, 1)
    )
    assert shares(client) == {"control": pytest.approx(0.1), "candidate": pytest.approx(0.9)}
    counts = ask(client, 200)
    assert counts["candidate"] > 150
    entry = send(client, "GET", ONE)
    assert entry["bandit"]["policy"] == "thompson"
    assert entry["bandit"]["learned"]["candidate"]["average"] == 1.0
    last = send(client, "GET", f"{ONE}/history?limit=1")["history"][0]
    assert (last["what"], last["who"]) == ("learned", "bandit")
    assert last["from"] == {"shares": {"control": 0.5, "candidate": 0.5}}
    assert last["to"] == {"shares": {"control": 0.1, "candidate": 0.9}}
    assert last["why"].startswith("click: control 0 of ")


def test_each_prediction_is_logged_with_the_chance_that_it_had(client, bandit):
    begin(client)
    earn(client, 100)
    look(client)
    earn(client, 60)
    experiments = client.assembly.experiments
    experiment = experiments.registry.get("ranker-2").experiment
    experiments._log.flush(5)
    decisions = experiments._store.decisions(experiment, experiment.metrics)
    assert set(decisions.propensity[:100]) == {0.5}
    for arm, chance in ((0, 0.1), (1, 0.9)):
        assert set(decisions.propensity[100:][decisions.arm[100:] == arm]) == {chance}
    assert len(set(decisions.unit)) == 160


def test_a_request_that_is_sent_again_is_drawn_again(client):
    begin(client)
    assert len(ask(client, 40, **{"X-Request-Id": "the-same"})) == 2
    reply = client.predict([[0]], headers={"X-Request-Id": "the-same"})
    assert reply.headers["inferd-sticky"] == "false"


def test_a_unit_keeps_its_variant_while_nothing_is_learned_and_moves_towards_the_better_one(client):
    begin(client, {**DEFINITION, "unit": "header:X-User"})
    users = [f"user-{number}" for number in range(80)]
    first = [client.predict([[0]], headers={"X-User": user}).headers["inferd-variant"] for user in users]
    assert first == [client.predict([[0]], headers={"X-User": user}).headers["inferd-variant"] for user in users]
    for number in range(60):
        earn(client, 1, **{"X-User": f"other-{number}"})
    look(client)
    then = [client.predict([[0]], headers={"X-User": user}).headers["inferd-variant"] for user in users]
    moved = Counter(zip(first, then, strict=True))
    assert moved["control", "candidate"] > 20
    assert moved["candidate", "control"] == 0


def test_what_changes_nothing_worth_telling_is_neither_put_in_place_nor_told(client):
    begin(client)
    earn(client, 30)
    look(client)
    assert told(client) == [("created", "")]
    earn(client, 100)
    look(client)
    look(client)
    earn(client, 20)
    look(client)
    assert told(client) == [("created", ""), ("learned", "bandit")]


def test_what_was_learned_outlives_a_restart_and_a_stop(serve):
    with serve() as client:
        begin(client)
        earn(client, 120)
        look(client)
        before = shares(client)
        send(client, "POST", f"{ONE}/stop")
        assert ask(client, 5) == {None: 5}
        send(client, "POST", f"{ONE}/start")
        assert shares(client) == before
    with serve() as client:
        assert shares(client) == before == {"control": pytest.approx(0.1), "candidate": pytest.approx(0.9)}
        assert look(client).buckets == (1000, 9000)


def followed(client):
    """Do here what another server decided."""
    experiments = client.assembly.experiments
    stored = experiments._follower._store.all()

    async def follow():
        experiments.control.follow(stored)

    client._run(follow())


def test_of_two_servers_one_puts_in_place_what_both_learn_and_the_other_follows(serve):
    with serve() as one, serve() as other:
        begin(one)
        followed(other)
        earn(one, 60)
        earn(other, 60)
        assert look(one) == look(other)
        assert told(one) == [("created", ""), ("learned", "bandit")]
        assert shares(one)["candidate"] == pytest.approx(0.9)
        followed(other)
        assert shares(other) == shares(one)


def test_a_variant_that_is_gone_gets_control_which_teaches_nothing_of_it(client):
    begin(client)
    earn(client, 80)
    client._run(client.assembly.control.unload("ranker", 2, ""))
    client._run(client.assembly.control.settled("ranker"))
    before = look(client)
    earn(client, 40, clicks=lambda number, variant: False)
    entry = send(client, "GET", ONE)
    fallbacks = {each["name"]: each["fallbacks"] for each in entry["variants"]}
    assert (entry["state"], fallbacks["control"]) == ("running", 0)
    assert fallbacks["candidate"] > 20
    now = look(client)
    assert now.rewards[1] == before.rewards[1]
    assert now.averages[1] == 1.0


def test_failures_may_be_what_it_learns_from(client):
    """The candidate's callers send what no version can answer."""
    begin(client, defined(reward="error", explore=0.1))
    for number in range(150):
        client.predict([[number % 2 - 0.5]])
    learned = look(client)
    assert sum(learned.rewards) == 150
    assert learned.averages[0] == pytest.approx(0.5, abs=0.2)


def test_a_database_that_is_gone_teaches_nothing_and_stops_nothing(client, monkeypatch, caplog):
    begin(client)
    earn(client, 60)
    client.assembly.experiments._store._engine.dispose()
    monkeypatch.setattr(client.assembly.experiments._store._engine, "connect", broken)
    assert look(client) is None
    assert "bandit ranker-2 learns nothing" in caplog.text
    assert ask(client, 10).total() == 10


def broken():
    from sqlalchemy.exc import OperationalError

    raise OperationalError("connect", {}, Exception("gone"))


def test_a_definition_that_is_refused_says_why(client):
    refusal = send(client, "POST", ALL, defined(reward="clicks"), 400)
    assert "bandit.reward is no metric: 'clicks'; did you mean 'click'?" in refusal["detail"]


def test_the_metrics_tell_the_shares_of_now(client):
    begin(client)
    earn(client, 120)
    look(client)
    page = client.get("/metrics").body.decode()
    assert 'inferd_experiment_share{experiment="ranker-2",variant="candidate"} 0.9' in page


def test_the_report_weighs_what_it_compares_and_is_reason_enough_to_promote(client):
    def clicks(number, variant):
        return number % 10 < (8 if variant == "candidate" else 2)

    begin(client)
    earn(client, 60, clicks)
    refusal = send(client, "POST", f"{ONE}/promote", {"variant": "candidate"}, 409)
    assert "click: too early: it takes 300 outcomes, since a variant may be chosen rarely" in refusal["detail"]
    earn(client, 300, clicks)
    look(client)
    earn(client, 300, clicks)
    found = send(client, "GET", f"{ONE}/report")
    (click,) = found["comparisons"]
    assert (found["mode"], found["split_alarm"], click["conclusion"]) == ("bandit", False, "better")
    assert click["estimate"]["delta"] == pytest.approx(0.6, abs=0.15)
    always = {each["policy"]: each["robust"] for each in found["policies"]}
    assert always["always candidate"]["mean"] == pytest.approx(0.8, abs=0.1)
    assert always["by the weights"]["mean"] == pytest.approx(0.5, abs=0.1)
    assert found["gain"]["mean"] == pytest.approx(found["earned"] - always["by the weights"]["mean"])
    page = client.get(f"{ONE}/report", {"accept": "text/html"}).body.decode()
    assert "do not compare them" in page
    assert "what each policy would earn a prediction" in page
    answer = send(client, "POST", f"{ONE}/promote", {"variant": "candidate"})
    assert (answer["forced"], answer["version"]) == (False, 2)
    assert told(client) == [("created", ""), ("learned", "bandit"), ("promoted", "")]


def test_rewards_that_are_told_of_one_variant_alone_void_the_report(client):
    begin(client)
    told = []
    for number in range(600):
        reply = client.predict([[number]])
        if reply.headers["inferd-variant"] == "control" or number % 4 == 0:
            prediction = reply.headers["inferd-prediction-id"]
            told.append({"prediction_id": prediction, "metric": "click", "value": 1.0})
    send(client, "POST", "/feedback", told)
    found = send(client, "GET", f"{ONE}/report")
    assert found["split_alarm"]
    assert send(client, "POST", f"{ONE}/promote", {"variant": "candidate"}, 409)


def test_linucb_learns_which_requests_each_variant_is_good_for(client):
    """Control is right for the young, the candidate for the old."""
    begin(client, defined(policy="linucb", explore=0.1, context=["header:X-Age", "parameter:hour"]))
    ages = (20, 30, 60, 70)

    def turn(count):
        told, got = [], Counter()
        for number in range(count):
            age = ages[number % 4]
            body = {"instances": [[number]], "parameters": {"hour": number % 24}}
            reply = client.request("POST", "/predict", json.dumps(body).encode(), {**JSON, "X-Age": str(age)})
            variant = reply.headers["inferd-variant"]
            got[age, variant] += 1
            right = float((variant == "candidate") == (age > 50))
            told.append({"prediction_id": reply.headers["inferd-prediction-id"], "metric": "click", "value": right})
        send(client, "POST", "/feedback", told)
        return got

    turn(200)
    assert look(client).linear is not None
    then = turn(200)
    assert min(then[20, "control"], then[30, "control"], then[60, "candidate"], then[70, "candidate"]) > 35
    experiments = client.assembly.experiments
    experiment = experiments.registry.get("ranker-2").experiment
    decisions = experiments._store.decisions(experiment, experiment.metrics)
    assert set(decisions.propensity[:200]) == {0.5}
    assert set(decisions.propensity[200:]) == {0.05, 0.95}
    assert set(decisions.context[:, 0]) == set(ages)
    assert set(decisions.context[:, 1]) == set(range(24))
    look(client)
    look(client)
    assert told(client) == [("created", ""), ("learned", "bandit"), ("learned", "bandit")]
    assert shares(client) == {"control": pytest.approx(0.5, abs=0.1), "candidate": pytest.approx(0.5, abs=0.1)}


def test_a_bandit_may_have_its_variants_shadowed_by_control(client):
    begin(client, {**DEFINITION, "shadow": {}})
    earn(client, 40)
    shadows = client.assembly.experiments.registry.get("ranker-2").live.shadows

    async def settle():
        while any(shadows.running.values()):
            await asyncio.sleep(0)

    client._run(settle())
    assert send(client, "GET", f"{ONE}/report")["shadows"][0]["compared"] > 0
