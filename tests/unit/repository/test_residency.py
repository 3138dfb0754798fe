"""Which versions make room for another, and who waits for one."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from inferd.core.config import LifecycleConfig, ModelConfig
from inferd.core.lifecycle import VersionState
from inferd.repository.record import VersionRecord
from inferd.repository.residency import Residency, version_bytes
from inferd.repository.waiters import Waiters


def record(
    name,
    size=10,
    asked_s=0.0,
    *,
    load="lazy",
    state=VersionState.READY,
    inflight=0,
    queued=0,
    dormant=False,
    cache=None,
):
    made = VersionRecord(ModelConfig(name, lifecycle=LifecycleConfig(load=load)), 1, Path(name), dormant=dormant)
    made.state, made.size_bytes, made.since_s = state, size, 0.0
    if state is VersionState.READY:
        batcher = SimpleNamespace(queue_rows=queued, wedged=False)
        made.servable = SimpleNamespace(
            inflight=inflight, batcher=batcher, cache=cache, metrics=SimpleNamespace(last_batch_s=asked_s)
        )
    return made


NEW = record("new", state=VersionState.PENDING)


@pytest.mark.parametrize(
    ("budget", "records", "victims"),
    [
        (0, [record("a", 10**9)], []),
        (20, [record("a")], []),
        (19, [record("a")], ["a"]),
        (30, [record("a", asked_s=3), record("b", asked_s=1), record("c", asked_s=2)], ["b"]),
        (20, [record("a", asked_s=3), record("b", asked_s=1), record("c", asked_s=2)], ["b", "c"]),
        (20, [record("a", asked_s=1, inflight=1), record("b", asked_s=2)], ["b"]),
        (20, [record("a", asked_s=1, queued=1), record("b", asked_s=2)], ["b"]),
        (20, [record("a", load="eager"), record("b")], ["b"]),
        (10, [record("a", load="eager"), record("b")], None),
        (10, [record("a", state=VersionState.LOADING)], None),
        (10, [record("a", state=VersionState.PENDING, dormant=True), record("b", state=VersionState.FAILED)], []),
        (9, [], None),
    ],
)
def test_the_longest_unasked_go_first_and_nobody_at_work(budget, records, victims):
    found = Residency(budget_bytes=budget).room_for(NEW, [NEW, *records])
    assert (None if found is None else [each.model for each in found]) == victims


def test_what_nobody_asked_for_long_enough_is_idle():
    residency = Residency(idle_s=1)
    hit = record("hit", cache=SimpleNamespace(last_hit_s=1e12))
    others = [record("fresh", asked_s=1e12), hit, record("busy", inflight=1), record("e", load="eager")]
    assert [each.model for each in residency.idle([record("old"), *others])] == ["old"]
    assert list(residency.idle(others)) == []
    assert list(Residency().idle([record("old")])) == []


def test_a_version_is_as_large_as_its_folder(tmp_path):
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(bytes(10))
    (folder / "weights.bin").write_bytes(bytes(90))
    assert version_bytes(folder / "model.onnx") == 100
    lone = tmp_path / "lone.onnx"
    lone.write_bytes(bytes(7))
    assert version_bytes(lone) == 7
    assert version_bytes(Path("module:Class")) == 0


def test_waiters_are_called_once_when_it_is_over_or_too_late():
    async def scenario():
        called = []
        waiters = Waiters(0.01)
        waiters.add(("m", 1), lambda: called.append("a"))
        cancel = waiters.add(("m", 1), lambda: called.append("b"))
        waiters.add(("m", 2), lambda: called.append("late"))
        cancel()
        waiters.notify(("m", 1))
        waiters.notify(("m", 1))
        assert called == ["a"]
        while len(called) < 2:
            await asyncio.sleep(0.001)
        assert called == ["a", "late"]
        assert Waiters(0).add(("m", 1), lambda: None) is None
        assert waiters.add(("m", 1), lambda: None, waited_s=0.01) is None

    asyncio.run(asyncio.wait_for(scenario(), 20))
