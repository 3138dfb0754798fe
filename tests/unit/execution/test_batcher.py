"""The scheduler's clocks, limits and promises, on virtual time."""

import asyncio
import threading
import time

import numpy as np
import pytest
import uvloop

from inferd.core.config import BatchingConfig
from inferd.core.errors import Cancelled, DeadlineExceeded, ExecutionFailed, ModelNotReady, Overloaded
from inferd.core.messages import InferenceRequest
from inferd.execution.batcher import SLOW_BATCHES, Batcher
from inferd.execution.instance import ModelInstance
from inferd.testing.clock import run_virtual
from inferd.testing.fakes import CountingMetrics, FakeModel, HeldInstance

MS = 1_000_000


class Bench:
    """A batcher over one held instance on the running virtual loop."""

    def __init__(self, config=None, *, instances=None, **options):
        self.loop = asyncio.get_running_loop()
        self.model = FakeModel()
        self.instance = HeldInstance(self.model)
        self.metrics = CountingMetrics()
        self.answers = []
        self.batcher = Batcher(
            instances or [self.instance],
            config or BatchingConfig(max_batch_size=64),
            self.metrics,
            self.loop,
            batchable=True,
            clock_ns=getattr(self.loop, "time_ns", time.monotonic_ns),
            **options,
        )

    def submit(self, rows=1, deadline_ms=0):
        request = InferenceRequest({"x": np.full((rows, 2), len(self.answers), np.float32)})
        request.rows = rows
        request.deadline_ns = deadline_ms * MS
        request.on_done = lambda done: self.answers.append((done, self.loop.time()))
        self.batcher.submit(request)
        return request


def inline(model, rows=1000):
    return ModelInstance(model, asyncio.get_running_loop(), "test", inline_rows=rows)


def test_requests_of_one_loop_turn_share_a_batch():
    async def scenario():
        bench = Bench()
        for _ in range(5):
            bench.submit()
        assert not bench.instance.batches
        await asyncio.sleep(0)
        assert [len(batch.requests) for batch in bench.instance.batches] == [5]

    run_virtual(scenario())


def test_what_arrives_while_the_instance_is_busy_goes_together_when_it_is_free():
    async def scenario():
        bench = Bench()
        for _ in range(10):
            bench.submit()
        await asyncio.sleep(0)
        for _ in range(4):
            bench.submit()
        await asyncio.sleep(0)
        assert len(bench.instance.batches) == 1
        bench.instance.finish()
        assert [len(batch.requests) for batch in bench.instance.batches] == [4]
        bench.instance.finish()
        assert len(bench.answers) == 14
        assert bench.metrics.batches == [("idle", 10, 10), ("idle", 4, 4)]

    run_virtual(scenario())


def test_nothing_waits_for_instances_that_all_hang():
    async def scenario():
        bench = Bench(compute_timeout_ms=30)
        bench.submit(rows=9)
        await asyncio.sleep(0.02)
        waiting = bench.submit()
        await asyncio.sleep(0.011)
        assert isinstance(waiting.error, ModelNotReady)

    run_virtual(scenario())


def test_a_wait_is_kept_from_the_oldest_request_and_not_longer():
    async def scenario():
        bench = Bench(BatchingConfig(max_batch_size=64, max_wait_ms=20))
        bench.submit()
        await asyncio.sleep(0.015)
        bench.submit()
        await asyncio.sleep(0.004)
        assert not bench.instance.batches
        await asyncio.sleep(0.0011)
        assert len(bench.instance.finish().requests) == 2

    run_virtual(scenario())


def test_an_expired_request_is_answered_on_time_though_the_instance_is_busy_and_never_executed():
    async def scenario():
        bench = Bench()
        bench.submit(rows=9)
        await asyncio.sleep(0)
        late = bench.submit(deadline_ms=50)
        await asyncio.sleep(1)
        assert isinstance(late.error, DeadlineExceeded)
        assert bench.answers[0][1] == pytest.approx(0.05, abs=1e-6)
        bench.instance.finish()
        await asyncio.sleep(0)
        assert not bench.instance.batches
        assert bench.model.calls == [9]
        assert bench.metrics.expired == {"queue": 1}

    run_virtual(scenario())


def test_an_earlier_deadline_moves_the_timer_forward():
    async def scenario():
        bench = Bench()
        bench.submit()
        await asyncio.sleep(0)
        bench.submit(deadline_ms=80)
        bench.submit(deadline_ms=10)
        await asyncio.sleep(0.2)
        assert [round(when * 1000) for _, when in bench.answers] == [10, 80]

    run_virtual(scenario())


def test_deadlines_that_are_over_when_they_come_are_told_on_uvloop_too():
    """Its timer of no delay is none that knows its time."""

    async def scenario():
        bench = Bench()
        for _ in range(3):
            bench.submit(deadline_ms=1)  # by the machine's clock, long ago
        await asyncio.sleep(0.01)
        assert [type(request.error) for request, _ in bench.answers] == [DeadlineExceeded] * 3

    uvloop.run(scenario())


def test_the_queue_timeout_ends_with_the_queue_and_the_deadline_does_not():
    async def scenario():
        bench = Bench(BatchingConfig(max_batch_size=64, queue_timeout_ms=10))
        running = bench.submit(rows=9, deadline_ms=100)
        await asyncio.sleep(0)
        waiting = bench.submit()
        await asyncio.sleep(0.05)
        assert waiting.error is not None
        assert not running.done
        await asyncio.sleep(0.1)
        assert isinstance(running.error, DeadlineExceeded)
        assert bench.metrics.expired == {"queue": 1, "compute": 1}

    run_virtual(scenario())


def test_a_caller_who_leaves_the_queue_is_forgotten_at_once():
    async def scenario():
        bench = Bench()
        bench.submit(rows=9)
        await asyncio.sleep(0)
        gone = bench.submit(rows=3)
        gone.cancel()
        assert isinstance(gone.error, Cancelled)
        assert bench.batcher.queue_rows == 0
        bench.instance.finish()
        await asyncio.sleep(0)
        assert bench.model.calls == [9]
        assert bench.metrics.cancelled == {"queue": 1}

    run_virtual(scenario())


def test_a_caller_who_leaves_while_the_model_runs_is_answered_once():
    async def scenario():
        bench = Bench()
        gone = bench.submit()
        stays = bench.submit()
        await asyncio.sleep(0)
        gone.cancel()
        bench.instance.finish()
        assert [request for request, _ in bench.answers] == [gone, stays]
        assert gone.outputs is None
        assert bench.metrics.cancelled == {"running": 1}

    run_virtual(scenario())


def test_a_full_queue_refuses_and_says_when_to_come_back():
    async def scenario():
        bench = Bench(BatchingConfig(max_batch_size=64, max_queue_size=2))
        bench.submit(rows=9)
        await asyncio.sleep(0)
        bench.submit(rows=2)
        with pytest.raises(Overloaded) as caught:
            bench.submit()
        assert caught.value.details["retry_after_s"] >= 1

    run_virtual(scenario())


def test_an_over_large_request_is_split_and_joined_in_order():
    async def scenario():
        bench = Bench(BatchingConfig(max_batch_size=4))
        x = np.arange(20, dtype=np.float32).reshape(10, 2)
        request = InferenceRequest({"x": x})
        request.rows = 10
        request.on_done = lambda done: bench.answers.append(done)
        bench.batcher.submit(request)
        await asyncio.sleep(0)
        assert bench.batcher.queue_rows == 4, "one part executes, one waits, the third is not made yet"
        while bench.instance.batches:
            bench.instance.finish()
            await asyncio.sleep(0)
        assert bench.model.calls == [4, 4, 2]
        assert bench.answers == [request]
        np.testing.assert_array_equal(request.outputs["y"], x * 2)

    run_virtual(scenario())


def test_an_over_large_request_needs_room_for_the_parts_that_wait_only():
    async def scenario():
        bench = Bench(BatchingConfig(max_batch_size=4, max_queue_size=20))
        bench.submit(rows=1)
        bench.submit(rows=1000)
        assert bench.batcher.queue_rows == 9
        bench.submit(rows=1000)
        with pytest.raises(Overloaded):
            bench.submit(rows=1000)

    run_virtual(scenario())


def test_a_failing_part_fails_the_whole_once_and_the_rest_is_not_executed():
    async def scenario():
        bench = Bench(BatchingConfig(max_batch_size=4))
        bench.model._compute = lambda x: 1 / 0
        whole = bench.submit(rows=40)
        await asyncio.sleep(0)
        while bench.instance.batches:
            bench.instance.finish()
            await asyncio.sleep(0)
        assert isinstance(whole.error, ExecutionFailed)
        assert len(bench.answers) == 1
        assert sum(bench.model.calls) <= 8

    run_virtual(scenario())


def test_leaving_an_over_large_request_forgets_all_of_its_parts():
    async def scenario():
        bench = Bench(BatchingConfig(max_batch_size=4))
        request = bench.submit(rows=10)
        await asyncio.sleep(0)
        request.cancel()
        assert len(bench.answers) == 1
        assert bench.batcher.queue_rows == 0

    run_virtual(scenario())


def test_beyond_the_compute_timeout_callers_get_an_answer_and_the_instance_no_work():
    async def scenario():
        bench = Bench(compute_timeout_ms=30)
        stuck = bench.submit()
        await asyncio.sleep(0.031)
        assert isinstance(stuck.error, DeadlineExceeded)
        assert bench.batcher.wedged
        with pytest.raises(ModelNotReady):
            bench.submit()
        bench.instance.finish()
        assert not bench.batcher.wedged
        assert len(bench.answers) == 1
        again = bench.submit()
        await asyncio.sleep(0)
        bench.instance.finish()
        assert again.outputs is not None

    run_virtual(scenario())


def test_closing_answers_what_still_waits():
    async def scenario():
        bench = Bench(BatchingConfig(max_batch_size=64, max_wait_ms=1000))
        waiting = bench.submit()
        bench.batcher.close()
        assert isinstance(waiting.error, ModelNotReady)
        assert bench.instance.closed

    run_virtual(scenario())


def test_answered_deadlines_do_not_pile_up():
    async def scenario():
        bench = Bench()
        for _ in range(5000):
            bench.submit(deadline_ms=3_600_000)
            await asyncio.sleep(0)
            bench.instance.finish()
        assert len(bench.batcher._deadlines) <= 1025

    run_virtual(scenario())


def test_an_inline_model_executes_in_the_turn_and_one_batch_a_turn():
    async def scenario():
        model = FakeModel()
        bench = Bench(BatchingConfig(max_batch_size=2), instances=[inline(model)])
        for _ in range(3):
            bench.submit()
        await asyncio.sleep(0)
        assert model.calls == [2]
        await asyncio.sleep(0)
        assert model.calls == [2, 1]
        assert len(bench.answers) == 3

    run_virtual(scenario())


def test_a_batch_too_large_for_the_loop_goes_to_the_thread():
    async def scenario():
        model = FakeModel()
        bench = Bench(instances=[inline(model, rows=3)])
        threads = []
        model._compute = lambda x: threads.append(threading.current_thread()) or x
        small, large = bench.submit(rows=3), InferenceRequest({"x": np.zeros((4, 2), np.float32)})
        await asyncio.sleep(0)
        answered = bench.loop.create_future()
        large.rows = 4
        large.on_done = answered.set_result
        bench.batcher.submit(large)
        await answered
        assert threads[0] is threading.current_thread()
        assert threads[1] is not threading.current_thread()
        assert small.outputs is not None
        assert large.outputs is not None

    asyncio.run(scenario())


def test_an_inline_model_that_stays_slow_goes_on_in_a_thread():
    async def scenario():
        bench = Bench(instances=[inline(FakeModel())], inline_max_us=0.0)
        for _ in range(SLOW_BATCHES):
            assert bench.batcher.mode == "inline"
            bench.submit()
            await asyncio.sleep(0)
        assert bench.batcher.mode == "thread"

    run_virtual(scenario())


def test_a_real_thread_completes_on_the_loop():
    async def scenario():
        loop = asyncio.get_running_loop()
        metrics = CountingMetrics()
        instance = ModelInstance(FakeModel(), loop, "test")
        batcher = Batcher([instance], BatchingConfig(max_batch_size=64), metrics, loop, batchable=True)
        requests = []
        for value in range(50):
            request = InferenceRequest({"x": np.full((1, 2), value, np.float32)})
            answered = loop.create_future()
            request.on_done = answered.set_result
            batcher.submit(request)
            requests.append((value, answered))
            if value % 7 == 0:
                await asyncio.sleep(0)
        for value, answered in requests:
            done = await answered
            np.testing.assert_array_equal(done.outputs["y"], np.full((1, 2), 2 * value, np.float32))
        batcher.close()

    asyncio.run(scenario())
