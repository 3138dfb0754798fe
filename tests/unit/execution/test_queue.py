"""The batch decision, case by case and by property."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inferd.core.config import BatchingConfig
from inferd.core.messages import InferenceRequest
from inferd.execution.queue import BatchQueue

MS = 1_000_000


def make_request(rows=1, key=None):
    request = InferenceRequest({"x": np.zeros((rows, 2), np.float32)})
    request.rows = rows
    request.key = key
    return request


def test_what_is_there_is_taken_at_once_when_nobody_has_to_wait():
    queue = BatchQueue(BatchingConfig(max_batch_size=8))
    requests = [make_request() for _ in range(3)]
    for request in requests:
        queue.push(request, 0)
    batch = queue.take(0)
    assert batch.requests == requests
    assert (batch.rows, batch.reason) == (3, "idle")
    assert queue.rows == 0
    assert queue.take(0) is None


def test_rows_are_counted_and_not_requests():
    queue = BatchQueue(BatchingConfig(max_batch_size=8))
    for _ in range(3):
        queue.push(make_request(rows=5), 0)
    assert queue.take(0).rows == 5
    assert queue.rows == 10


def test_the_wait_runs_from_the_oldest_request():
    queue = BatchQueue(BatchingConfig(max_batch_size=8, max_wait_ms=10))
    queue.push(make_request(), 0)
    queue.push(make_request(), 9 * MS)
    assert queue.take(9 * MS) is None
    assert queue.wake_ns() == 10 * MS
    assert (queue.take(10 * MS).rows, queue.rows) == (2, 0)


def test_a_full_batch_does_not_wait():
    queue = BatchQueue(BatchingConfig(max_batch_size=2, max_wait_ms=1000))
    queue.push(make_request(), 0)
    queue.push(make_request(), 0)
    assert queue.take(0).reason == "full"


def test_a_full_lane_overtakes_one_that_still_waits():
    queue = BatchQueue(BatchingConfig(max_batch_size=2, max_wait_ms=1000))
    queue.push(make_request(key="a"), 0)
    queue.push(make_request(key="b"), 1)
    queue.push(make_request(key="b"), 2)
    assert {request.key for request in queue.take(3).requests} == {"b"}
    assert queue.take(3) is None


def test_different_keys_never_share_a_batch_and_take_turns():
    queue = BatchQueue(BatchingConfig(max_batch_size=2))
    for key in "aaaab":
        queue.push(make_request(key=key), 0)
    order = [[request.key for request in queue.take(0).requests] for _ in range(3)]
    assert order == [["a", "a"], ["b"], ["a", "a"]]


def test_a_removed_request_is_never_taken_and_frees_its_rows():
    queue = BatchQueue(BatchingConfig(max_batch_size=64, max_queue_size=4))
    request = make_request(rows=4)
    queue.push(request, 0)
    assert queue.remove(request)
    assert not queue.remove(request)
    assert queue.rows == 0
    assert queue.take(0) is None


def test_a_full_queue_has_no_room_and_an_empty_one_takes_any_size():
    queue = BatchQueue(BatchingConfig(max_batch_size=64, max_queue_size=4))
    assert queue.has_room(100)
    queue.push(make_request(rows=3), 0)
    assert queue.has_room(1)
    assert not queue.has_room(2)


def test_without_batching_each_request_goes_alone_whatever_its_rows():
    queue = BatchQueue(BatchingConfig(max_batch_size=4), one_at_a_time=True)
    queue.push(make_request(rows=10), 0)
    queue.push(make_request(), 0)
    assert [queue.take(0).rows, queue.take(0).rows] == [10, 1]


@given(
    st.lists(st.tuples(st.integers(1, 8), st.sampled_from("abc"), st.booleans()), max_size=60),
    st.integers(8, 16),
)
def test_every_request_leaves_once_in_order_within_the_limit(arrivals, max_batch_size):
    """Whatever arrives and whoever leaves: batches hold one key, keep the order, and never exceed the row limit."""
    queue = BatchQueue(BatchingConfig(max_batch_size=max_batch_size, max_queue_size=10_000))
    waiting = []
    for rows, key, leaves in arrivals:
        request = make_request(rows, key)
        queue.push(request, 0)
        if leaves:
            queue.remove(request)
        else:
            waiting.append(request)
    taken = []
    while (batch := queue.take(0)) is not None:
        assert len({request.key for request in batch.requests}) == 1
        assert batch.rows == sum(request.rows for request in batch.requests) <= max_batch_size
        taken.extend(batch.requests)
    assert queue.rows == 0
    for key in "abc":
        assert [r for r in taken if r.key == key] == [r for r in waiting if r.key == key]
