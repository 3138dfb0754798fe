"""Equal requests to one version get one answer, computed once."""

import numpy as np
import pytest

from inferd.core.errors import DeadlineExceeded, ExecutionFailed, Overloaded
from inferd.core.messages import InferenceRequest
from inferd.serving.response_cache import ResponseCache
from inferd.telemetry.metrics import VersionMetrics


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


class Scheduler:
    """Takes requests and answers them when it is told to."""

    def __init__(self):
        self.taken = []

    def __call__(self, request):
        self.taken.append(request)

    def answer(self, outputs=None, error=None):
        request = self.taken.pop(0)
        request.fail(error) if error else request.complete(outputs or {"y": request.inputs["x"] * 2})


class World:
    def __init__(self, **options):
        self.clock = Clock()
        self.metrics = VersionMetrics("m", 1)
        self.cache = ResponseCache(self.metrics, monotonic_s=self.clock, **{"max_bytes": 1 << 20, **options})
        self.scheduler = Scheduler()

    def ask(self, value, **more):
        answers = []
        inputs = {"x": value if isinstance(value, np.ndarray) else np.array([value], np.float32)}
        request = InferenceRequest(inputs, **more)
        request.on_done = answers.append
        self.cache.submit(request, self.scheduler)
        return request, answers

    def counts(self):
        return dict(self.metrics.cached)


@pytest.fixture
def world():
    return World()


def test_an_equal_request_is_answered_without_the_model(world):
    _, first = world.ask(1)
    world.scheduler.answer()
    _, again = world.ask(1)
    assert again[0].outputs["y"].tolist() == first[0].outputs["y"].tolist() == [2]
    assert world.scheduler.taken == []
    assert world.counts() == {"miss": 1, "hit": 1}


@pytest.mark.parametrize(
    "other",
    [
        {"value": 2},
        {"value": np.array([[1]], np.float32)},
        {"value": np.array([1], np.float64)},
        {"value": 1, "wanted": ("y",)},
        {"value": 1, "signature": "s"},
    ],
)
def test_whatever_differs_is_computed_for_itself(world, other):
    world.ask(1)
    world.scheduler.answer()
    world.ask(**other)
    assert len(world.scheduler.taken) == 1


def test_zeros_of_two_signs_differ_and_a_nan_is_equal_to_itself(world):
    for value in (0.0, -0.0, np.nan):
        world.ask(value)
        assert len(world.scheduler.taken) == 1
        world.scheduler.answer()
    world.ask(np.nan)
    assert world.scheduler.taken == []


def test_texts_are_told_apart_at_their_ends(world):
    for text in ([b"a", b"bc"], [b"ab", b"c"]):
        array = np.empty(2, object)
        array[:] = text
        world.ask(array)
    assert len(world.scheduler.taken) == 2


def test_those_who_ask_at_once_share_one_computation(world):
    asked = [world.ask(1) for _ in range(5)]
    assert len(world.scheduler.taken) == 1
    world.scheduler.answer()
    assert all(answers[0].outputs["y"].tolist() == [2] for _, answers in asked)
    assert world.counts() == {"miss": 1, "shared": 4}


def test_one_who_leaves_takes_nobody_along_and_the_last_one_ends_it(world):
    (first, _), (_, answers) = world.ask(1), world.ask(1)
    first.cancel()
    assert not world.scheduler.taken[0].done
    world.scheduler.answer()
    assert answers[0].outputs is not None
    (third, _), (fourth, _) = world.ask(2), world.ask(2)
    third.cancel()
    fourth.cancel()
    assert world.scheduler.taken[0].done


def test_a_failure_is_everybodys_who_waited_and_is_not_kept(world):
    asked = [world.ask(1) for _ in range(2)]
    world.scheduler.answer(error=ExecutionFailed("no"))
    assert all(isinstance(answers[0].error, ExecutionFailed) for _, answers in asked)
    world.ask(1)
    assert len(world.scheduler.taken) == 1


def test_a_request_that_is_refused_leaves_nothing_behind(world):
    def full(request):
        raise Overloaded("full")

    request = InferenceRequest({"x": np.zeros(1)})
    with pytest.raises(Overloaded):
        world.cache.submit(request, full)
    world.ask(np.zeros(1))
    assert len(world.scheduler.taken) == 1


def test_nobodys_deadline_is_anothers(world):
    _, impatient = world.ask(1, deadline_ns=1)
    _, patient = world.ask(1)
    world.scheduler.answer(error=DeadlineExceeded("late"))
    assert isinstance(impatient[0].error, DeadlineExceeded)
    assert patient == []
    world.scheduler.answer()
    assert patient[0].outputs is not None


def test_answers_age():
    world = World(ttl_s=10)
    world.ask(1)
    world.scheduler.answer()
    world.clock.now_s = 9.9
    assert world.ask(1)[1]
    world.clock.now_s = 10
    assert not world.ask(1)[1]


def test_the_least_recently_used_make_room():
    world = World(max_bytes=2 * (256 + 4))
    for value in (1, 2):
        world.ask(value)
        world.scheduler.answer()
    world.ask(1)
    world.ask(3)
    world.scheduler.answer()
    assert world.cache.held_bytes == 2 * (256 + 4)
    assert world.ask(1)[1]
    assert not world.ask(2)[1]


def test_what_is_kept_does_not_hold_its_batch(world):
    batch = np.zeros((1000, 1), np.float32)
    world.ask(1)
    world.scheduler.answer({"y": batch[:1]})
    _, answers = world.ask(1)
    assert answers[0].outputs["y"].base is None


def test_an_answer_too_large_is_given_and_not_kept():
    world = World(max_bytes=100)
    _, answers = world.ask(1)
    world.scheduler.answer()
    assert answers
    assert world.cache.held_bytes == 0
