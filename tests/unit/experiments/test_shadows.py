"""Requests that run a second time, on another version, while nobody waits for them."""

import json
import threading
import time
from collections import Counter

import numpy as np
import pytest

from inferd.core.messages import InferenceRequest
from inferd.experiments.definition import Experiment, Shadow, Variant
from inferd.experiments.registry import ExperimentRegistry
from inferd.experiments.shadows import _own
from inferd.testing import Client

MODEL = """
import time
from pathlib import Path
import numpy as np

class Model:
    inputs = {"x": "FP32[-1, 1]"}
    outputs = {"y": "FP64[-1]", "scale": "FP64[-1]"}
    batchable = True
    here = Path(__file__).parent

    def predict(self, x: np.ndarray, parameters) -> dict[str, np.ndarray]:
        scale = parameters.get("scale", 1.0)
        BODY
"""
DOUBLE = 'return {"y": x[:, 0] * 2.0, "scale": np.full(len(x), scale)}'
BODIES = {
    1: DOUBLE,
    # Twice its input, but for what is above 10.
    2: 'return {"y": np.where(x[:, 0] > 10, 0.0, x[:, 0] * 2.0), "scale": np.full(len(x), scale)}',
    3: f"""if (x == 4).any():
            raise RuntimeError("boom")
        {DOUBLE}""",
    4: f"""(self.here / "entered").touch()
        while (self.here / "hold").exists():
            time.sleep(0.005)
        {DOUBLE}""",
    5: f"{DOUBLE} # slightly more".replace("2.0", "2.00001"),
}
STREAM = """
from collections.abc import Iterator
import numpy as np

class Model:
    inputs = {"x": "FP32[-1, 1]"}
    outputs = {"y": "FP64[-1]", "scale": "FP64[-1]"}

    def predict(self, x: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        yield {"y": x[:, 0] * 2.0, "scale": np.ones(len(x))}
"""
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    codes = {version: MODEL.replace("BODY", body) for version, body in BODIES.items()}
    for version, code in {**codes, 6: STREAM}.items():
        (folder / "ranker" / str(version)).mkdir(parents=True)
        (folder / "ranker" / str(version) / "model.py").write_text(code)
    return folder


@pytest.fixture(scope="module")
def client(folder):
    with Client(folder, version_policy="all") as client:
        client._run(client.assembly.control.set_label("ranker", "default", 1, "test"))
        yield client


class Events(list):
    """What was logged; ``wait`` until there are so many."""

    def __init__(self):
        super().__init__()
        self._changed = threading.Condition()

    def append(self, event):
        with self._changed:
            super().append(event)
            self._changed.notify_all()

    def wait(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self) >= count, 30), list(self)
        return list(self)


@pytest.fixture
def registry(client):
    events = Events()
    registry = ExperimentRegistry(client.assembly.engine, events.append)
    registry.events = events
    yield registry
    client.assembly.engine.policies = {}
    registry.close()


def shadow(*versions, settings=None, **changes):
    variants = [Variant(f"v{version}", f"ranker@{version}") for version in versions]
    values = {
        "id": "next",
        "model": "ranker",
        "unit": "request-id",
        "salt": "next",
        "mode": "shadow",
        "variants": (Variant("control", "ranker@1"), *variants),
        "shadow": settings or Shadow(rtol=0, atol=1e-3, top_k=1, max_concurrency=100),
        **changes,
    }
    return Experiment(**values)


def ask(client, *values, path="/predict", request_id=None, **more):
    body = json.dumps({"instances": [[value] for value in values], **more}).encode()
    headers = {**JSON, **({"x-request-id": request_id} if request_id else {})}
    return client.post(path, body, headers)


def on_loop(client, function):
    async def call():
        return function()

    return client._run(call())


def inflight(client):
    return {record.version: record.inflight for record in client.assembly.repository.records}


def settled(client, entry):
    """Once no shadow runs or is compared any more."""
    end = time.monotonic() + 30
    while any(on_loop(client, lambda: [*inflight(client).values(), *entry.live.shadows.running.values()])):
        assert time.monotonic() < end, (inflight(client), entry.live.shadows.running)
        time.sleep(0.005)


def test_the_answer_is_byte_for_byte_that_of_control_and_every_shadow_is_compared(client, registry):
    plain = ask(client, 1, 20, request_id="same")
    entry = registry.add(shadow(2, 5), "")
    reply = ask(client, 1, 20, request_id="same")
    assert reply.body == plain.body
    assert reply.headers.keys() == plain.headers.keys()
    assert "inferd-experiment" not in reply.headers
    events = {event.variant: event for event in registry.events.wait(2)}
    different, equal = events["v2"], events["v5"]
    assert (different.outcome, equal.outcome) == ("ok", "ok")
    assert different.prediction_id == equal.prediction_id
    assert equal.difference.equal
    assert equal.difference.largest == pytest.approx(0.0002, rel=0.02)
    assert not different.difference.equal
    assert different.difference.largest == 40
    assert "differs in 1 of 2 values" in different.difference.reason
    assert different.control_us is not None
    assert different.variant_us is not None
    assert not any(hasattr(event, "unit") for event in registry.events), "nobody is exposed to anything"
    settled(client, entry)
    assert entry.live.shadows.counts == {"v2": {"different": 1}, "v5": {"equal": 1}}
    assert +entry.live.shadows.running == {}


def test_what_differs_is_kept_row_by_row_with_its_inputs(client, registry):
    registry.add(shadow(2), "")
    ask(client, 1, 20, 2, 30, request_id="who-asked")
    (event,) = registry.events.wait(1)
    details = json.loads(event.details)
    assert details["request_id"] == "who-asked"
    assert details["reason"] == event.difference.reason
    assert details["rows_that_differ"] == 2
    assert details["rows"] == [
        {
            "row": row,
            "inputs": {"x": [value]},
            "control": {"y": 2 * value, "scale": 1.0},
            "variant": {"y": 0.0, "scale": 1.0},
        }
        for row, value in ((1, 20.0), (3, 30.0))
    ]


def test_only_so_many_disagreements_are_kept_and_nothing_of_those_that_agree(client, registry):
    entry = registry.add(shadow(2, settings=Shadow(keep=2)), "")
    for number, value in enumerate((20, 1, 20, 20)):
        ask(client, value)
        registry.events.wait(number + 1)
        settled(client, entry)
    assert [bool(event.details) for event in registry.events] == [True, False, True, False]
    assert {event.keep for event in registry.events} == {2}


def test_redacted_tensors_are_not_kept(client, registry):
    registry.add(shadow(2, settings=Shadow(redact=("x", "y"))), "")
    ask(client, 20)
    (event,) = registry.events.wait(1)
    assert "20" not in event.details
    assert "40" not in event.details
    (row,) = json.loads(event.details)["rows"]
    assert row["inputs"] == {"x": {"datatype": "FP32", "shape": [1, 1]}}
    assert row["variant"] == {"y": {"datatype": "FP64", "shape": [1]}, "scale": 1.0}


def test_the_shadow_gets_parameters_and_the_outputs_that_were_wanted(client, registry):
    registry.add(shadow(2), "")
    assert ask(client, 20, parameters={"scale": 3.0}).json["predictions"] == [{"y": 40.0, "scale": 3.0}]
    body = {
        "inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [20]}],
        "outputs": [{"name": "scale"}],
    }
    reply = client.post("/v2/models/ranker/infer", json.dumps(body).encode(), JSON)
    assert [each["name"] for each in reply.json["outputs"]] == ["scale"]
    first, second = registry.events.wait(2)
    (row,) = json.loads(first.details)["rows"]
    assert row["variant"] == {"y": 0.0, "scale": 3.0}
    assert second.difference.equal, "the output that differs was not asked for"


def test_a_shadow_that_raises_is_counted_and_nobody_notices(client, registry):
    entry = registry.add(shadow(3), "")
    assert ask(client, 4).json["predictions"] == [{"y": 8.0, "scale": 1.0}]
    (event,) = registry.events.wait(1)
    assert (event.outcome, event.difference, event.details) == ("internal", None, "")
    settled(client, entry)
    assert entry.live.shadows.counts == {"v3": {"failed": 1}}


def test_primaries_are_answered_while_a_shadow_is_held_and_what_finds_no_room_is_shed(client, registry, folder):
    held = folder / "ranker" / "4"
    (held / "hold").touch()
    entry = registry.add(shadow(4, 2, settings=Shadow(max_concurrency=3)), "")
    try:
        for number in range(10):
            assert ask(client, number).json["predictions"] == [{"y": 2.0 * number, "scale": 1.0}]
            registry.events.wait(number + 1)  # the other shadow's, which has a budget of its own
            on_loop(client, lambda: None)
        assert (held / "entered").exists()
        assert on_loop(client, lambda: dict(entry.live.shadows.running)) == {"v4": 3, "v2": 0}
        assert on_loop(client, lambda: inflight(client))[4] == 3
        assert {event.variant for event in registry.events} == {"v2"}
    finally:
        (held / "hold").unlink()
    registry.events.wait(13)
    settled(client, entry)
    on_loop(client, entry.live.shadows.tally)
    assert entry.live.shadows.counts == {"v4": {"equal": 3, "shed": 7}, "v2": {"equal": 10}}
    shed = [event for event in registry.events if event.outcome == "shed"]
    assert sum(event.requests for event in shed) == 7
    assert {event.variant for event in shed} == {"v4"}


def test_the_counts_of_what_was_not_run_are_logged_without_anybody_asking(client, registry, folder):
    registry.add(shadow(4, settings=Shadow(max_concurrency=1)), "")
    held = folder / "ranker" / "4"
    (held / "hold").touch()
    try:
        for _ in range(3):
            ask(client, 1)
        (event,) = registry.events.wait(1)
        assert (event.outcome, event.requests) == ("shed", 2)
    finally:
        (held / "hold").unlink()
    registry.events.wait(2)


def test_a_shadow_without_a_ready_version_is_unavailable(client, registry):
    entry = registry.add(shadow(2), "")
    engine, table = client.assembly.engine, client.assembly.engine.table
    engine.table = type(table)(table.statuses, table.default_model, table.labels)
    engine.table.tickets = {target: each for target, each in table.tickets.items() if target.version != 2}
    try:
        assert ask(client, 20).json["predictions"][0]["y"] == 40
        on_loop(client, lambda: None)
    finally:
        engine.table = table
    on_loop(client, entry.live.shadows.tally)
    (event,) = registry.events.wait(1)
    assert (event.outcome, event.requests) == ("unavailable", 1)
    assert entry.live.shadows.counts == {"v2": {"unavailable": 1}}


def test_requests_that_fail_and_those_without_rows_have_no_shadow(client, registry):
    entry = registry.add(shadow(2), "")
    assert ask(client, "text").status == 422
    assert client.post("/predict", b'{"instances": []}', JSON).status in (200, 422)
    ask(client, 1)
    assert len(registry.events.wait(1)) == 1
    settled(client, entry)
    assert len(registry.events) == 1


def test_a_version_asked_by_name_has_no_shadow(client, registry):
    entry = registry.add(shadow(2), "")
    ask(client, 1, path="/models/ranker/versions/1/predict")
    ask(client, 1, path="/models/ranker/predict")
    assert len(registry.events.wait(1)) == 1
    settled(client, entry)
    assert len(registry.events) == 1


def test_the_sample_is_decided_by_the_requests_id(client, registry):
    entry = registry.add(shadow(2, settings=Shadow(sample=0.3)), "")

    def sampled():
        before = len(registry.events)
        for number in range(40):
            ask(client, 1, request_id=f"request-{number}")
            settled(client, entry)
        return len(registry.events) - before

    first = sampled()
    assert 3 < first < 25
    assert sampled() == first
    chosen = [entry.live.shadows.follow(str(n), "p", entry.experiment.control) is not None for n in range(10_000)]
    assert 2_800 < sum(chosen) < 3_200


def test_of_an_experiment_control_is_the_shadow_of_whoever_is_treated(client, registry):
    variants = (Variant("control", "ranker@1"), Variant("treated", "ranker@2"))
    experiment = shadow(mode="fixed", unit="header:X-User", variants=variants)
    registry.add(experiment, "")
    variant_of = {}
    for number in range(20):
        headers = {**JSON, "x-user": f"user-{number}"}
        reply = client.post("/predict", b'{"instances": [[20]]}', headers)
        variant_of[reply.headers["inferd-prediction-id"]] = reply.headers["inferd-variant"]
    treated = {prediction for prediction, variant in variant_of.items() if variant == "treated"}
    events = registry.events.wait(20 + len(treated))
    compared = [event for event in events if hasattr(event, "difference")]
    assert {event.prediction_id for event in compared} == treated
    assert {event.variant for event in compared} == {"treated"}
    row = json.loads(compared[0].details)["rows"][0]
    assert (row["control"]["y"], row["variant"]["y"]) == (40, 0), "what is expected is what control says"
    exposures = [event for event in events if not hasattr(event, "difference")]
    assert Counter(event.variant for event in exposures) == Counter(variant_of.values())


@pytest.mark.parametrize(
    ("experiment", "reason"),
    [
        (shadow(6), "variant 'v6' answers in streams, which cannot be compared"),
        (shadow(2, settings=Shadow(redact=("z",))), "shadow.redact: no input or output is named 'z'"),
        (
            shadow(1, variants=(Variant("control", "ranker@2"), Variant("v1", "ranker@1"))),
            "who takes no part gets version 1 of 'ranker', not control's ranker@2",
        ),
    ],
)
def test_what_cannot_be_a_shadow_is_kept_with_the_reason(client, registry, experiment, reason):
    entry = registry.add(experiment, "")
    assert entry.state == "invalid"
    assert reason in entry.reason
    ask(client, 1)
    assert registry.events == []


def test_the_shadows_of_a_version_are_no_requests_of_its_callers(client, registry):
    def counted(version):
        lines = client.get("/metrics").body.decode().splitlines()
        return [line for line in lines if f'model="ranker",version="{version}"' in line and "_total{" in line]

    before = counted(2)
    entry = registry.add(shadow(2), "")
    ask(client, 1)
    registry.events.wait(1)
    settled(client, entry)
    assert counted(2) == before


def test_a_row_of_a_batch_is_copied_and_a_whole_answer_is_not():
    batch = np.arange(100.0)
    assert _own(batch) is batch
    assert _own(batch[:80]).base is batch
    assert _own(batch[3:4]).base is None
    assert _own(batch[3:4]).tolist() == [3.0]


def test_answers_that_a_response_cache_knew_are_run_again_all_the_same(tmp_path):
    for version in (1, 2):
        (tmp_path / "ranker" / str(version)).mkdir(parents=True)
        (tmp_path / "ranker" / str(version) / "model.py").write_text(MODEL.replace("BODY", BODIES[version]))
    (tmp_path / "ranker" / "model.toml").write_text("[cache]\nmax_mb = 1\n")
    with Client(tmp_path, version_policy="all") as client:
        client._run(client.assembly.control.set_label("ranker", "default", 1, "test"))
        events = Events()
        registry = ExperimentRegistry(client.assembly.engine, events.append)
        entry = registry.add(shadow(2), "")
        for number in range(3):
            assert ask(client, 20).json["predictions"][0]["y"] == 40
            events.wait(number + 1)
        assert [event.outcome for event in events] == ["ok"] * 3
        assert [event.control_us is None for event in events] == [False, True, True], "a known answer takes no time"
        assert all(event.variant_us is not None for event in events), "shadows are never answered from a cache"
        settled(client, entry)
        registry.close()


def test_answers_that_cannot_be_compared_give_their_room_back(client, registry, monkeypatch):
    entry = registry.add(shadow(2, settings=Shadow(max_concurrency=1)), "")

    class Unreadable:
        dtype = property(lambda self: 1 / 0)

    compared = entry.live.shadows._compared
    outputs = {"y": Unreadable()}
    monkeypatch.setattr(
        entry.live.shadows, "_compared", lambda shadow, _, us, keep: compared(shadow, outputs, us, keep)
    )
    for number in range(2):
        ask(client, 1)
        registry.events.wait(number + 1)
        settled(client, entry)
        on_loop(client, lambda: None)
    assert [event.outcome for event in registry.events] == ["incomparable"] * 2
    assert entry.live.shadows.counts == {"v2": {"failed": 2}}


def test_a_request_is_run_again_once_it_is_both_submitted_and_answered(client, registry):
    """A response cache answers before the engine tells the observer that it has submitted."""
    entry = registry.add(shadow(2), "")
    ran = []
    entry.live.shadows.run = lambda request, prediction_id, pairs: ran.append(request)
    request = InferenceRequest({"x": np.zeros((1, 1), np.float32)})
    request.outputs = {"y": np.zeros(1)}
    for order in (("submitted", "answered"), ("answered", "submitted")):
        observer = entry.live.shadows.follow("id", "p", entry.experiment.control)
        for step in order:
            if step == "submitted":
                observer.submitted(request)
            else:
                observer.answered("ok", 1, request.outputs)
    assert ran == [request, request]
    failed = entry.live.shadows.follow("id", "p", entry.experiment.control)
    failed.submitted(request)
    failed.answered("cancelled", 1, None)
    assert len(ran) == 2
