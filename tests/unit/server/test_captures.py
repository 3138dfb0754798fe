"""Captures by their control routes: begun, looked at, taken, stopped; and by the clock, through a model's versions."""

import asyncio
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

from inferd.core.errors import CaptureNotFound, Conflict, InvalidRequest
from inferd.core.lifecycle import VersionState
from inferd.experiments.events import hash_unit
from inferd.server.captures import Captures
from inferd.serving.capture import CaptureSettings
from inferd.serving.engine import Engine
from inferd.serving.table import Table, VersionStatus
from inferd.testing import Client
from inferd.testing.clock import run_virtual

JSON = {"content-type": "application/json"}
PATH = "/admin/models/people/capture"


class People:
    inputs = {"age": "INT64[-1]", "name": "BYTES[-1]"}
    outputs = {"older": "INT64[-1]"}
    batchable = True

    def predict(self, age, name):
        return age + 1


@pytest.fixture
def client():
    with Client(People(), name="people") as client:
        yield client


def start(client, **options):
    return client.request("PUT", PATH, json.dumps(options).encode(), JSON)


def ask(client, *ages, headers=None, **more):
    body = json.dumps({"inputs": {"age": ages, "name": ["Ann"] * len(ages)}, **more}).encode()
    reply = client.post("/predict", body, {**JSON, **(headers or {})})
    assert reply.status == 200, reply.body


def taken(client):
    """The manifest, and the arrays."""
    reply = client.get(f"{PATH}/requests.npz")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/x-npz"
    with np.load(io.BytesIO(reply.body), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return json.loads(arrays.pop("manifest.json")), arrays


def test_a_capture_is_begun_looked_at_taken_and_stopped(client):
    assert client.get(PATH).status == 404
    begun = start(client, sample=1, max_requests=2)
    assert (begun.status, begun.json["running"], begun.json["held"]) == (201, True, 0)
    for age in (1, 2, 3):
        ask(client, age)
    described = client.get(PATH).json
    assert (described["seen"], described["captured"], described["held"]) == (3, 3, 2)
    assert described["dropped"] == {"ring": 1}
    manifest, arrays = taken(client)
    assert manifest["model"] == "people"
    assert arrays["0.input.age"].tolist() == [[2], [3]]
    assert arrays["0.output.older"].tolist() == [[3], [4]]
    assert client.request("DELETE", PATH, b"", JSON).json["running"] is False
    assert client.get(PATH).status == client.get(f"{PATH}/requests.npz").status == 404
    ask(client, 4)
    metrics = client.get("/metrics").body.decode()
    assert 'inferd_captured_total{model="people"} 3' in metrics
    assert 'inferd_capture_dropped_total{model="people",reason="ring"} 1' in metrics


def test_counts_go_on_from_one_capture_to_the_next(client):
    for _ in range(2):
        start(client)
        ask(client, 1)
        client.request("DELETE", PATH, b"", JSON)
    assert 'inferd_captured_total{model="people"} 2' in client.get("/metrics").body.decode()


def test_an_empty_capture_is_a_file_too(client):
    start(client)
    manifest, arrays = taken(client)
    assert manifest["requests"] == manifest["groups"] == []
    assert arrays == {}


def test_one_capture_a_model(client):
    start(client)
    again = start(client)
    assert again.status == 409
    assert "captured already" in again.json["detail"]


def test_nobody_captures_a_model_that_is_not_there(client):
    reply = client.request("PUT", "/admin/models/nobody/capture", b"{}", JSON)
    assert reply.status == 404


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"sample": 0}, "sample"),
        ({"sample": 1.1}, "sample"),
        ({"max_mb": 0}, "max_mb"),
        ({"max_requests": 0}, "max_requests"),
        ({"for_s": -1}, "for_s"),
        ({"unit": "moon"}, "unit"),
        ({"unit": "header:"}, "unit"),
        ({"redact": "name"}, "redact"),
        ({"redacted": ["name"]}, "redacted"),
    ],
)
def test_wrong_options_are_refused_with_their_place(client, options, place):
    reply = start(client, **options)
    assert reply.status == 422
    assert reply.json["path"] == place
    assert client.get(PATH).status == 404


def test_what_is_to_be_redacted_must_be_there(client):
    reply = start(client, redact=["nmae"])
    assert reply.status == 422
    assert reply.json["detail"].endswith("no input or output named 'nmae'; there are: age, name, older")
    assert start(client, redact=["name"]).status == 201
    ask(client, 7)
    _, arrays = taken(client)
    assert arrays["0.input.age"].tolist() == [[7]]
    assert arrays["0.input.name"].size == 0


def test_a_unit_is_kept_hashed_as_an_experiment_hashes_it_or_plain(client):
    start(client, unit="header:X-User", salt="ranker-2")
    ask(client, 1, headers={"X-User": "ann"})
    ask(client, 1)
    assert [each["unit"] for each in taken(client)[0]["requests"]] == [hash_unit("ranker-2", "ann"), ""]
    client.request("DELETE", PATH, b"", JSON)
    start(client, unit="parameter:user", plain_unit=True)
    ask(client, 1, parameters={"user": 17})
    assert taken(client)[0]["requests"][0]["unit"] == "17"


def test_a_request_whose_answer_goes_out_as_an_event_is_captured_too(client):
    start(client)
    for route in ("generate", "generate_stream"):
        reply = client.post(f"/v2/models/people/{route}", b'{"age": 7, "name": "Ann"}', JSON)
        assert reply.status == 200, reply.body
    ask(client, 8)
    _, arrays = taken(client)
    assert arrays["0.input.age"].tolist() == [[7], [7], [8]]


def test_an_answer_from_the_cache_is_captured_without_a_time_of_its_own(tmp_path):
    folder = tmp_path / "people" / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text("def predict(x: float) -> float:\n    return x\n")
    (folder.parent / "model.toml").write_text("[cache]\nmax_mb = 1\n")
    with Client(tmp_path) as client:
        start(client)
        for _ in range(2):
            assert client.predict([1.5]).status == 200
        first, again = taken(client)[0]["requests"]
    assert first["compute_ns"] > 0
    assert (again["compute_ns"], again["outcome"]) == (0, "ok")
    assert again["total_ns"] > 0


def servable(version, *names):
    """What a capture looks at of a version."""
    found = SimpleNamespace(name="m", version=version, capture=None)
    signature = SimpleNamespace(inputs=[SimpleNamespace(name=name) for name in names], outputs=[])
    found.signatures = {"default": signature}
    found.ticket = SimpleNamespace(servable=found)
    return found


def serving(engine, *servables):
    engine.table = Table([VersionStatus("m", each.version, VersionState.READY, servable=each) for each in servables])


def test_a_capture_ends_with_its_time_and_what_it_holds_stays():
    async def scenario():
        engine = Engine()
        captures, first = Captures(engine), servable(1, "x")
        serving(engine, first)
        found = captures.start("m", CaptureSettings(), {}, for_s=10, unit_of=None)
        await asyncio.sleep(9.9)
        assert first.capture is found.capture
        await asyncio.sleep(0.2)
        assert first.capture is None
        assert captures.get("m").describe()["running"] is False
        second = servable(2, "x")
        captures.adopt(second)
        assert second.capture is None
        captures.stop("m")
        with pytest.raises(CaptureNotFound):
            captures.get("m")

    run_virtual(scenario())


def test_versions_that_come_take_the_capture_up_unless_they_lack_what_is_redacted():
    async def scenario():
        engine = Engine()
        captures, first, other = Captures(engine), servable(1, "x", "ssn"), servable(2, "x", "number")
        serving(engine, first)
        found = captures.start("m", CaptureSettings(redact=("ssn",)), {}, for_s=10, unit_of=None)
        captures.adopt(other)
        assert other.capture is None
        assert found.describe()["versions_passed_over"] == [2]
        third = servable(3, "x", "ssn")
        captures.adopt(third)
        assert third.capture is first.capture is found.capture
        captures.stop("m")
        serving(engine, first, third)
        again = captures.start("m", CaptureSettings(), {}, for_s=10, unit_of=None)
        assert third.capture is again.capture
        await asyncio.sleep(0)

    run_virtual(scenario())


def test_without_a_ready_version_nobody_can_tell_what_is_to_be_redacted():
    async def scenario():
        captures = Captures(Engine())
        with pytest.raises(Conflict, match="no version of 'm' is ready"):
            captures.start("m", CaptureSettings(leave_out=("x",)), {}, for_s=1, unit_of=None)
        found = captures.start("m", CaptureSettings(), {}, for_s=1, unit_of=None)
        first = servable(1, "x")
        captures.adopt(first)
        assert first.capture is found.capture

    run_virtual(scenario())


def test_a_name_no_version_has_is_refused():
    async def scenario():
        engine = Engine()
        serving(engine, servable(1, "x"))
        with pytest.raises(InvalidRequest, match="no input or output named 'y'"):
            Captures(engine).start("m", CaptureSettings(redact=("y",)), {}, for_s=1, unit_of=None)

    run_virtual(scenario())
