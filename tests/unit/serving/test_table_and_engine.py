import asyncio

import numpy as np
import pytest

from inferd.abc import Target
from inferd.core.config import BatchingConfig, ModelConfig
from inferd.core.errors import (
    AmbiguousModel,
    InvalidRequest,
    ModelNotFound,
    ModelNotLoaded,
    ModelNotReady,
    VersionNotFound,
)
from inferd.core.lifecycle import VersionState
from inferd.core.messages import InferenceRequest
from inferd.execution.batcher import Batcher
from inferd.serving.engine import Engine
from inferd.serving.servable import Servable
from inferd.serving.table import Table, VersionStatus
from inferd.telemetry.metrics import VersionMetrics
from inferd.testing.clock import run_virtual
from inferd.testing.fakes import FakeModel, HeldInstance


def make_servable(name="m", version=1, instance=None):
    model = FakeModel()
    metrics = VersionMetrics(name, version)
    loop = asyncio.get_running_loop()
    config = BatchingConfig(max_batch_size=64)
    batcher = Batcher([instance or HeldInstance(model)], config, metrics, loop, batchable=True)
    return Servable(
        ModelConfig(name=name),
        version,
        signatures=model.signatures,
        metadata=model.metadata,
        batchable=True,
        batcher=batcher,
        metrics=metrics,
        info={},
    )


def ready(servable):
    return VersionStatus(servable.name, servable.version, VersionState.READY, "", servable)


def waiting(name, version, state=VersionState.LOADING, reason=""):
    return VersionStatus(name, version, state, reason)


def test_a_version_a_model_and_the_only_model_are_found():
    async def scenario():
        first, second = make_servable(version=1), make_servable(version=2)
        tickets = Table([ready(first), ready(second)]).tickets
        assert tickets[Target("m", 1)].servable is first
        assert tickets[Target("m", None)].servable is second
        assert tickets[Target(None, None)].servable is second

    run_virtual(scenario())


def test_the_default_of_a_model_is_its_highest_ready_version():
    async def scenario():
        first = make_servable(version=1)
        table = Table([ready(first), waiting("m", 2)])
        assert table.tickets[Target("m", None)].servable is first
        assert isinstance(table.explain(Target("m", 2)), ModelNotReady)

    run_virtual(scenario())


def test_a_version_that_sleeps_is_woken_rather_than_that_a_lower_one_answers():
    async def scenario():
        first, third = make_servable(version=1), make_servable(version=3)
        asleep = VersionStatus("m", 2, VersionState.PENDING, dormant=True, asleep=True)
        loading = VersionStatus("m", 2, VersionState.LOADING, dormant=True)
        table = Table([ready(first), asleep])
        assert Target("m", None) not in table.tickets
        assert isinstance(table.explain(Target("m", None)), ModelNotLoaded)
        assert Table([ready(first), loading]).tickets[Target("m", None)].servable is first
        assert Table([ready(first), asleep, ready(third)]).tickets[Target("m", None)].servable is third

    run_virtual(scenario())


def test_the_label_default_says_which_version_is_the_default_ready_or_not():
    async def scenario():
        first, second = make_servable(version=1), make_servable(version=2)
        labelled = {"m": {"default": 1}}
        table = Table([ready(first), ready(second)], labels=labelled)
        assert table.tickets[Target("m")] is table.tickets[Target()] is table.tickets[Target("m", "default")]
        assert table.tickets[Target("m")].servable is first
        assert table.default_status("m").version == 1
        table = Table([waiting("m", 1), ready(second)], labels=labelled)
        assert table.tickets.keys() == {Target("m", 2)}
        assert "version 1 is LOADING" in table.explain(Target("m")).message
        table = Table([ready(second)], labels=labelled)
        assert table.tickets[Target("m")].servable is second

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        (Target("nobody"), ModelNotFound, "served: a, b"),
        (Target("a", 7), VersionNotFound, "there are: 1"),
        (Target("a", 1), ModelNotReady, "is LOADING"),
        (Target("b"), ModelNotReady, "is FAILED: no weights"),
        (Target(), AmbiguousModel, "ask for one by name: a, b"),
    ],
)
def test_what_is_not_there_is_explained(target, error, words):
    table = Table([waiting("a", 1), waiting("b", 1, VersionState.FAILED, "no weights")])
    explained = table.explain(target)
    assert type(explained) is error
    assert words in explained.message


def test_a_configured_default_is_asked_among_several():
    table = Table([waiting("a", 1), waiting("b", 1)], "b")
    assert "'b' version 1 is LOADING" in table.explain(Target()).message


def test_routing_pins_until_the_release():
    async def scenario():
        engine = Engine()
        servable = make_servable()
        engine.table = Table([ready(servable)])
        tickets = [engine.route(Target("m")) for _ in range(3)]
        assert servable.inflight == 3
        drained = asyncio.ensure_future(servable.drained())
        for ticket in tickets:
            await asyncio.sleep(0)
            assert not drained.done()
            ticket.release()
        await drained

    run_virtual(scenario())


def test_a_request_that_does_not_fit_is_not_submitted():
    async def scenario():
        engine = Engine()
        servable = make_servable()
        engine.table = Table([ready(servable)])
        for request in (
            InferenceRequest({"x": np.zeros((1, 3), np.float32)}),
            InferenceRequest({"x": np.zeros((1, 2), np.float64)}),
            InferenceRequest({"z": np.zeros((1, 2), np.float32)}),
            InferenceRequest({}),
            InferenceRequest({"x": np.zeros((1, 2), np.float32)}, wanted=("z",)),
            InferenceRequest({"x": np.zeros((1, 2), np.float32)}, signature="other"),
        ):
            ticket = engine.route(Target())
            with pytest.raises(InvalidRequest):
                engine.submit(ticket, request)
        assert servable.batcher.queue_rows == 0

    run_virtual(scenario())


def test_requests_with_other_parameters_or_outputs_do_not_share_a_batch():
    async def scenario():
        engine = Engine()
        instance = HeldInstance(FakeModel())
        servable = make_servable(instance=instance)
        engine.table = Table([ready(servable)])
        ticket = engine.route(Target())
        for parameters in ({}, {"k": 1}, {"k": 2}, {"k": 1}, {}):
            engine.submit(ticket, InferenceRequest({"x": np.zeros((1, 2), np.float32)}, parameters=parameters))
        sizes = []
        for _ in range(3):
            await asyncio.sleep(0)
            sizes.append(len(instance.finish().requests))
        assert sorted(sizes) == [1, 2, 2]

    run_virtual(scenario())


def test_no_rows_are_answered_without_the_model():
    async def scenario():
        engine = Engine()
        engine.table = Table([ready(make_servable())])
        request = InferenceRequest({"x": np.zeros((0, 2), np.float32)})
        engine.submit(engine.route(Target()), request)
        assert request.outputs["y"].shape == (0, 2)

    run_virtual(scenario())


def test_background_work_holds_its_version_until_it_is_done():
    async def scenario():
        servable = make_servable(instance=HeldInstance(FakeModel()))
        engine = Engine()
        done = []
        request = InferenceRequest({"x": np.zeros((1, 2), np.float32)}, wanted=("y",))
        request.on_done = done.append
        engine.submit_background(servable.ticket, request)
        with pytest.raises(InvalidRequest, match="no output named 'z'"):
            engine.submit_background(
                servable.ticket, InferenceRequest({"x": np.zeros((1, 2), np.float32)}, wanted=("z",))
            )
        await asyncio.sleep(0)
        assert (servable.inflight, servable.background) == (1, 1)
        await servable.answered()
        drained = asyncio.create_task(servable.drained())
        await asyncio.sleep(0)
        assert not drained.done()
        servable.batcher._instances[0].finish()
        await drained
        assert done == [request]
        assert (servable.inflight, servable.background) == (0, 0)

    run_virtual(scenario())


def test_a_version_is_answered_when_its_callers_are_whatever_runs_in_the_background():
    async def scenario():
        instance = HeldInstance(FakeModel())
        servable = make_servable(instance=instance)
        engine = Engine()
        engine.table = Table([ready(servable)])
        ticket = engine.route(Target("m"))
        caller = InferenceRequest({"x": np.zeros((1, 2), np.float32)})
        caller.on_done = lambda request: ticket.release()
        engine.submit(ticket, caller)
        engine.submit_background(ticket, InferenceRequest({"x": np.zeros((1, 2), np.float32)}))
        answered = asyncio.create_task(servable.answered())
        await asyncio.sleep(0)
        assert not answered.done()
        assert servable.background == 0, "what had not begun is given up"
        instance.finish()
        await answered
        with pytest.raises(ModelNotReady):
            engine.submit_background(ticket, InferenceRequest({"x": np.zeros((1, 2), np.float32)}))
        assert servable.inflight == 0

    run_virtual(scenario())
