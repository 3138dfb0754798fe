"""Requests that nobody waits for: after all others, apart from them, and given up first."""

import asyncio
import threading
import time

import numpy as np
import pytest

from inferd.core.config import BatchingConfig
from inferd.core.errors import ModelNotReady, Overloaded
from inferd.core.messages import InferenceRequest
from inferd.execution.batcher import Batcher
from inferd.execution.instance import ModelInstance
from inferd.testing.clock import run_virtual
from inferd.testing.fakes import CountingMetrics, FakeModel, HeldInstance


class Bench:
    """A batcher over one held instance; ``done`` are the answered requests, in order."""

    def __init__(self, config=None, *, instance=None, batchable=True, **options):
        loop = asyncio.get_running_loop()
        self.instance = instance or HeldInstance(FakeModel())
        self.metrics = CountingMetrics()
        self.done = []
        config = config or BatchingConfig(max_batch_size=8)
        clock = getattr(loop, "time_ns", time.monotonic_ns)
        self.batcher = Batcher(
            [self.instance], config, self.metrics, loop, batchable=batchable, clock_ns=clock, **options
        )

    def request(self, rows=1):
        request = InferenceRequest({"x": np.zeros((rows, 2), np.float32)})
        request.rows = rows
        request.on_done = self.done.append
        return request

    def submit(self, rows=1):
        request = self.request(rows)
        self.batcher.submit(request)
        return request

    def submit_background(self, rows=1):
        request = self.request(rows)
        self.batcher.submit_background(request)
        return request

    async def turn(self):
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    @property
    def running(self):
        return [request for batch in self.instance.batches for request in batch.requests]


def test_a_background_request_runs_when_an_instance_is_idle():
    async def scenario():
        bench = Bench()
        first, second = bench.submit_background(), bench.submit_background()
        assert bench.batcher.statistics()["background_rows"] == 2
        await bench.turn()
        assert bench.running == [first, second], "they share a batch with each other"
        bench.instance.finish()
        assert bench.done == [first, second]
        assert first.outputs is not None
        assert bench.batcher.statistics()["background_rows"] == 0

    run_virtual(scenario())


def test_whoever_waits_goes_first_and_never_shares_a_batch_with_the_background():
    async def scenario():
        bench = Bench()
        running = bench.submit()
        await bench.turn()
        background = bench.submit_background()
        later = bench.submit()
        await bench.turn()
        bench.instance.finish()
        await bench.turn()
        assert bench.running == [later], "the caller came later and goes first"
        bench.instance.finish()
        await bench.turn()
        assert bench.running == [background]
        bench.instance.finish()
        assert bench.done == [running, later, background]

    run_virtual(scenario())


def test_callers_who_wait_to_share_a_batch_are_not_overtaken():
    async def scenario():
        bench = Bench(BatchingConfig(max_batch_size=8, max_wait_ms=5))
        caller, background = bench.submit(), bench.submit_background()
        await bench.turn()
        assert bench.running == []
        await asyncio.sleep(0.006)
        assert bench.running == [caller]
        bench.instance.finish()
        await bench.turn()
        assert bench.running == [background]

    run_virtual(scenario())


def test_the_background_is_no_part_of_the_versions_metrics():
    async def scenario():
        bench = Bench()
        bench.submit_background()
        await bench.turn()
        bench.instance.finish()
        bench.submit()
        await bench.turn()
        bench.instance.finish()
        assert bench.metrics.batches == [("idle", 1, 1)]

    run_virtual(scenario())


def test_an_inline_model_answers_callers_on_the_loop_and_the_background_in_its_thread():
    threads = []

    def compute(x):
        threads.append(threading.current_thread())
        return x

    async def scenario():
        instance = ModelInstance(FakeModel(compute), asyncio.get_running_loop(), "inferd-test", inline_rows=8)
        bench = Bench(instance=instance)
        bench.submit()
        await bench.turn()
        ended = asyncio.Event()
        background = bench.request()
        background.on_done = lambda request: ended.set()
        bench.batcher.submit_background(background)
        await asyncio.wait_for(ended.wait(), 30)
        bench.submit()
        await bench.turn()
        bench.batcher.close()
        assert len(bench.done) == 2

    asyncio.run(scenario())
    main = threading.current_thread()
    assert [thread is main for thread in threads] == [True, False, True]
    assert threads[1].name == "inferd-test"


def test_an_over_large_request_goes_part_by_part_and_callers_get_in_between():
    async def scenario():
        bench = Bench(BatchingConfig(max_batch_size=2))
        large = bench.submit_background(rows=5)
        await bench.turn()
        caller = bench.submit()
        bench.instance.finish()
        await bench.turn()
        assert bench.running == [caller]
        while not large.done:
            bench.instance.finish()
            await bench.turn()
        assert bench.done == [caller, large]
        assert large.outputs["y"].shape == (5, 2)
        assert bench.instance.model.calls == [2, 1, 2, 1]

    run_virtual(scenario())


def test_one_at_a_time_holds_in_the_background_too():
    async def scenario():
        bench = Bench(batchable=False)
        first, second = bench.submit_background(), bench.submit_background()
        await bench.turn()
        assert bench.running == [first]
        bench.instance.finish()
        await bench.turn()
        assert bench.running == [second]

    run_virtual(scenario())


def test_the_background_has_the_room_of_one_queue_and_takes_none_of_the_callers():
    async def scenario():
        bench = Bench(BatchingConfig(max_batch_size=8, max_queue_size=2))
        bench.submit_background()
        bench.submit_background()
        with pytest.raises(Overloaded):
            bench.submit_background()
        bench.submit()
        bench.submit()
        with pytest.raises(Overloaded):
            bench.submit()

    run_virtual(scenario())


def test_what_waits_in_the_background_is_given_up_and_what_runs_goes_on():
    async def scenario():
        bench = Bench()
        running = bench.submit_background()
        await bench.turn()
        waiting = bench.submit_background()
        bench.batcher.stop_background()
        assert bench.done == [waiting]
        assert isinstance(waiting.error, ModelNotReady)
        with pytest.raises(ModelNotReady):
            bench.submit_background()
        bench.instance.finish()
        assert running.outputs is not None
        caller = bench.submit()
        await bench.turn()
        assert bench.running == [caller]

    run_virtual(scenario())


def test_a_background_batch_beyond_the_compute_timeout_is_answered_and_not_counted_as_a_callers():
    async def scenario():
        bench = Bench(compute_timeout_ms=10)
        running = bench.submit_background()
        await bench.turn()
        waiting = bench.submit_background()
        await asyncio.sleep(0.011)
        assert running.error is not None
        assert isinstance(waiting.error, ModelNotReady), "nothing waits for an instance that is wedged"
        with pytest.raises(ModelNotReady):
            bench.submit_background()
        assert bench.metrics.expired == {}
        bench.instance.finish()
        bench.submit_background()
        await bench.turn()
        assert len(bench.running) == 1

    run_virtual(scenario())
