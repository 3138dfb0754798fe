"""Responses from a model's thread to a caller: in order, few at a time, and an end to both sides."""

import asyncio
import functools
import threading

import pytest

from inferd.core.errors import Cancelled, DeadlineExceeded, InvalidInput
from inferd.core.messages import InferenceRequest
from inferd.serving import responses as module
from inferd.serving.responses import MAX_WAITING, Responses


def on_a_loop(test):
    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


class Version:
    """Stands for a servable with its ticket and the engine: it keeps what is submitted, and counts releases."""

    streaming = True
    capture = None

    def __init__(self):
        self.servable = self
        self.released = 0

    def release(self):
        self.released += 1

    def submit(self, ticket, request):
        self.request = request


def started(version):
    responses = Responses(version, version, asyncio.get_running_loop())
    responses.start(InferenceRequest({}), None)
    return responses


def fill(responses, count, results):
    thread = threading.Thread(target=lambda: results.extend(responses.put({"i": i}) for i in range(count)))
    thread.start()
    return thread


@on_a_loop
async def test_a_model_is_held_up_until_its_caller_reads():
    version, results = Version(), []
    responses = started(version)
    thread = fill(responses, MAX_WAITING + 2, results)
    first = await anext(responses)
    rest = [await anext(responses) for _ in range(MAX_WAITING)]
    assert [each["i"] for each in (first, *rest)] == list(range(MAX_WAITING + 1))
    await asyncio.to_thread(thread.join)
    version.request.complete({})
    assert [each["i"] async for each in responses] == [MAX_WAITING + 1]
    assert results == [True] * (MAX_WAITING + 2)
    responses.close()
    responses.close()
    assert version.released == 1


@on_a_loop
async def test_more_than_a_few_do_not_wait():
    version, results = Version(), []
    responses = started(version)
    thread = fill(responses, MAX_WAITING, results)
    await asyncio.to_thread(thread.join)
    assert not responses._room.acquire(blocking=False)
    responses.close()


@on_a_loop
async def test_closing_frees_a_model_that_waits_and_cancels_its_request():
    version, results = Version(), []
    responses = started(version)
    thread = fill(responses, MAX_WAITING + 5, results)
    await anext(responses)
    responses.close()
    await asyncio.to_thread(thread.join)
    assert not results[-1]
    assert isinstance(version.request.error, Cancelled)


@on_a_loop
async def test_an_error_comes_after_the_responses_before_it():
    version = Version()
    responses = started(version)
    await asyncio.to_thread(fill(responses, 2, []).join)
    version.request.fail(InvalidInput("no more"))
    assert [(await anext(responses))["i"] for _ in range(2)] == [0, 1]
    with pytest.raises(InvalidInput, match="no more"):
        await anext(responses)
    assert not responses.put({"i": 3})
    responses.close()


@on_a_loop
async def test_the_outputs_of_a_model_that_returns_are_the_only_response():
    version = Version()
    version.streaming = False
    responses = started(version)
    assert version.request.sink is None
    version.request.complete({"y": 1})
    assert [each async for each in responses] == [{"y": 1}]
    responses.close()


@on_a_loop
async def test_a_caller_who_never_reads_loses_its_request(monkeypatch):
    monkeypatch.setattr(module, "MAX_STALL_S", 0.01)
    version, results = Version(), []
    responses = started(version)
    await asyncio.to_thread(fill(responses, MAX_WAITING + 1, results).join)
    assert results == [*[True] * MAX_WAITING, False]
    with pytest.raises(DeadlineExceeded, match="has not read"):
        async for _ in responses:
            pass
    responses.close()
