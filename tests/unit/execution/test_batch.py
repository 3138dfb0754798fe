"""Stacking, splitting and the search for the culprit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferd.core.errors import ExecutionFailed, InvalidInput, WrongRowCount
from inferd.core.messages import InferenceRequest
from inferd.execution.batch import Batch
from inferd.testing.fakes import FakeModel


def make_requests(*sizes, start=0):
    requests = []
    for size in sizes:
        x = np.arange(start, start + 2 * size, dtype=np.float32).reshape(size, 2)
        start += 2 * size
        request = InferenceRequest({"x": x})
        request.rows = size
        requests.append(request)
    return requests


def execute(model, requests, allowed_sizes=()):
    batch = Batch(requests, sum(request.rows for request in requests), "idle")
    batch.execute(model, allowed_sizes)
    assert [request for request, _ in batch.answers] == requests
    return batch


def results_of(batch):
    return [result for _, result in batch.answers]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20))
def test_batched_answers_equal_unbatched_ones(sizes):
    requests = make_requests(*sizes)
    results = results_of(execute(FakeModel(), requests))
    for request, result in zip(requests, results, strict=True):
        np.testing.assert_array_equal(result["y"], request.inputs["x"] * 2)


def test_a_batch_of_one_request_reaches_the_model_uncopied():
    seen = []
    (request,) = make_requests(3)
    execute(FakeModel(lambda x: seen.append(x) or x), [request])
    assert seen[0] is request.inputs["x"]


def test_results_are_views_of_the_models_output():
    outputs = []
    model = FakeModel(lambda x: outputs.append(x * 2) or outputs[-1])
    results = results_of(execute(model, make_requests(1, 2)))
    assert all(np.shares_memory(result["y"], outputs[0]) for result in results)


def test_only_the_culprit_of_a_failing_batch_gets_an_error():
    def compute(x):
        if (x == 14).any():
            raise ValueError("boom")
        return x

    model = FakeModel(compute)
    results = results_of(execute(model, make_requests(*[1] * 32)))
    failed = [index for index, result in enumerate(results) if isinstance(result, Exception)]
    assert failed == [7]
    assert isinstance(results[7], ExecutionFailed)
    assert "boom" not in results[7].message
    assert len(model.calls) == 1 + 2 * 5


def test_refused_input_is_the_callers_error_and_only_theirs():
    def compute(x):
        if (x == 2).any():
            raise InvalidInput("no twos")
        return x

    results = results_of(execute(FakeModel(compute), make_requests(1, 1, 1)))
    assert [type(result) for result in results] == [dict, InvalidInput, dict]


@pytest.mark.parametrize("compute", [lambda x: x[:-1], lambda x: np.concatenate((x, x)), lambda x: np.float32(1)])
def test_a_wrong_number_of_rows_is_an_error_for_all_and_is_not_searched(compute):
    model = FakeModel(lambda x: np.asarray(compute(x)))
    results = results_of(execute(model, make_requests(1, 2, 1)))
    assert [type(result) for result in results] == [WrongRowCount] * 3
    assert model.calls == [4]


def test_a_model_that_ends_the_process_only_fails_its_request():
    def compute(x):
        raise SystemExit(3)

    assert isinstance(results_of(execute(FakeModel(compute), make_requests(1)))[0], ExecutionFailed)


def test_a_batch_is_padded_to_the_next_allowed_size_and_the_padding_stripped():
    model = FakeModel()
    batch = execute(model, make_requests(2, 3), allowed_sizes=(4, 8))
    assert model.calls == [8]
    assert batch.padded_rows == 3
    assert [len(result["y"]) for result in results_of(batch)] == [2, 3]


def test_a_model_that_is_not_batchable_is_not_asked_for_rows():
    model = FakeModel(lambda x: np.float32([1, 2, 3]), batchable=False)
    assert len(results_of(execute(model, make_requests(2)))[0]["y"]) == 3


def test_those_who_left_before_the_execution_are_not_executed():
    model = FakeModel()
    gone, stays = make_requests(2, 1)
    gone.cancel()
    batch = Batch([gone, stays], 3, "idle")
    batch.drop_answered()
    batch.execute(model)
    assert model.calls == [1]
    assert [request for request, _ in batch.answers] == [stays]
