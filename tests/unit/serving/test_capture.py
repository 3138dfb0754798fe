"""The ring of captured requests: what is kept, in what bounds, and that no answer is ever in its way."""

import random
from types import SimpleNamespace

import numpy as np
import pytest

from inferd.core.errors import ExecutionFailed, InvalidInput
from inferd.core.messages import InferenceRequest
from inferd.serving.capture import OWN_BYTES, Capture, CaptureSettings

X = np.arange(6, dtype=np.float32).reshape(2, 3)


class World:
    """A capture, and requests to version 3 of its model."""

    def __init__(self, *, unit_of=None, chance=lambda: 0.0, **settings):
        self.capture = Capture(CaptureSettings(**settings), unit_of=unit_of, chance=chance)
        self.servable = SimpleNamespace(version=3, default_outputs=("y",))
        self.answers = []

    def ask(self, inputs=None, *, exchange=None, **more):
        request = InferenceRequest(inputs or {"x": X}, **more)
        request.on_done = self.answers.append
        self.capture.follow(request, exchange, self.servable)
        return request

    def kept(self):
        return self.capture.snapshot()


@pytest.fixture
def world():
    return World()


def test_a_request_is_kept_as_it_was_and_answered_as_ever(world):
    request = world.ask(request_id="r1", parameters={"t": 2}, wanted=("z",), signature="s")
    request.queued_ns, request.started_ns, request.executing_ns, request.computed_ns = 10, 25, 30, 70
    request.batch_rows, request.rows = 8, 2
    request.complete({"y": X * 2})
    (kept,) = world.kept()
    assert world.answers == [request]
    assert (kept.request_id, kept.version, kept.outcome) == ("r1", 3, "ok")
    assert (kept.parameters, kept.wanted, kept.signature) == ({"t": 2}, ("z",), "s")
    assert (kept.queue_ns, kept.compute_ns, kept.batch_rows, kept.rows) == (15, 40, 8, 2)
    np.testing.assert_array_equal(kept.inputs["x"], X)
    np.testing.assert_array_equal(kept.outputs["y"], X * 2)


def test_outputs_nobody_asked_for_by_name_are_the_models_own_choice(world):
    world.ask(wanted=world.servable.default_outputs).complete({"y": X})
    assert world.kept()[0].wanted == ()


def test_copies_are_kept_so_that_no_batch_is_held_and_no_caller_can_change_them(world):
    batch = np.ones((64, 3), np.float32)
    shared = X.copy()
    world.ask({"x": shared}).complete({"y": batch[5:6]})
    shared[:] = -1
    batch[:] = -1
    (kept,) = world.kept()
    np.testing.assert_array_equal(kept.inputs["x"], X)
    np.testing.assert_array_equal(kept.outputs["y"], np.ones((1, 3)))
    assert kept.outputs["y"].base is None


def test_the_newest_stay_within_the_number_and_the_bytes():
    world = World(max_requests=3)
    for i in range(5):
        world.ask(request_id=str(i)).complete({})
    assert [each.request_id for each in world.kept()] == ["2", "3", "4"]
    assert world.capture.dropped == {"ring": 2}
    size = OWN_BYTES + X.nbytes
    world = World(max_bytes=2 * size)
    for i in range(5):
        world.ask(request_id=str(i)).complete({})
        assert world.capture.held_bytes <= 2 * size
    assert [each.request_id for each in world.kept()] == ["3", "4"]


def test_bytes_of_texts_and_parameters_count():
    world = World()
    world.ask({"t": np.array([b"x" * 5000], object)}, parameters={"p": "y" * 7000}).complete({})
    assert 12_000 < world.capture.held_bytes < 12_000 + 2 * OWN_BYTES


def test_what_is_larger_than_the_ring_is_not_kept_and_drives_nothing_out():
    world = World(max_bytes=4 * OWN_BYTES)
    world.ask(request_id="small").complete({})
    world.ask({"x": np.zeros(10_000)}).complete({})
    assert [each.request_id for each in world.kept()] == ["small"]
    assert world.capture.dropped == {"too_large": 1}
    assert len(world.answers) == 2


def test_a_share_is_sampled():
    world = World(sample=0.25, max_requests=10_000, chance=random.Random(1).random)
    for _ in range(4000):
        world.ask().complete({})
    assert world.capture.seen == 4000
    assert world.capture.kept == len(world.kept()) == pytest.approx(1000, abs=100)
    assert len(world.answers) == 4000


def test_named_tensors_are_redacted_or_left_out():
    world = World(redact=("name", "age", "echo"), leave_out=("note", "extra"))
    inputs = {"name": np.array([b"Ann"], object), "age": np.array([44]), "note": np.array([1.5]), "x": X}
    world.ask(inputs).complete({"echo": np.array([b"Ann"], object), "extra": X, "y": X})
    (kept,) = world.kept()
    assert {name: array.tolist() for name, array in kept.inputs.items()} == {"name": [b""], "age": [0], "x": X.tolist()}
    assert kept.inputs["age"].dtype == np.int64
    assert list(kept.outputs) == ["y"]
    assert inputs["name"].tolist() == [b"Ann"]


def test_parameters_can_be_kept_out():
    world = World(parameters=False)
    world.ask(parameters={"secret": 1}).complete({})
    assert world.kept()[0].parameters == {}


def test_failures_are_kept_with_their_reason_unless_something_is_hidden():
    world = World()
    world.ask().fail(InvalidInput("17 is no age"))
    world.ask().fail(ExecutionFailed("the model failed"))
    world.ask().cancel()
    assert [each.outcome for each in world.kept()] == ["invalid_argument", "internal", "cancelled"]
    assert world.kept()[0].reason == "17 is no age"
    assert all(not each.outputs for each in world.kept())
    world = World(redact=("age",))
    world.ask().fail(InvalidInput("17 is no age"))
    assert world.kept()[0].reason == ""


def test_the_unit_is_kept_as_the_capture_reads_it():
    world = World(unit_of=lambda exchange: exchange["user"])
    world.ask(exchange={"user": "ann"}).complete({})
    assert world.kept()[0].unit == "ann"


@pytest.mark.parametrize("broken", [{"y": np.array([1j])}, {"y": "no array"}])
def test_what_cannot_be_copied_is_counted_and_answered_all_the_same(world, broken):
    request = world.ask()
    request.complete(broken)
    assert world.answers == [request]
    assert request.outputs is broken
    assert world.capture.dropped == {"failed": 1}
    assert world.kept() == []


def test_nothing_is_kept_after_the_end_not_even_what_was_under_way(world):
    request = world.ask()
    world.capture.end()
    request.complete({})
    assert world.answers == [request]
    assert world.kept() == []


def test_a_snapshot_stays_as_it_is():
    world = World(max_requests=1)
    world.ask(request_id="old").complete({})
    snapshot = world.kept()
    world.ask(request_id="new").complete({})
    assert [each.request_id for each in snapshot] == ["old"]
