"""The queue before the store."""

from threading import Event

import pytest

from inferd.experiments.events import UnstorableEvents
from inferd.experiments.log import EventLog


class Flaky:
    """A sink that fails until it is told to work."""

    def __init__(self):
        self.works = Event()
        self.failed = Event()
        self.kept = []

    def add_events(self, batch):
        if not self.works.is_set():
            self.failed.set()
            raise OSError("the disk is gone")
        self.kept += batch


def test_a_dead_store_holds_nobody_up_and_what_waits_is_written_later(exposure):
    sink = Flaky()
    log = EventLog(sink, max_pending=10, flush_interval_s=0.001)
    for number in range(15):
        log.put(exposure(number))
    assert sink.failed.wait(10)
    assert log.dropped == 5
    assert not log.flush(0.01)
    sink.works.set()
    assert log.flush(10)
    assert [each.prediction_id for each in sink.kept] == [f"p-{number}" for number in range(10)]
    log.close(10)


def test_what_was_put_before_the_end_is_written(exposure):
    sink = Flaky()
    sink.works.set()
    log = EventLog(sink, flush_interval_s=60)
    log.put(exposure())
    log.close(10)
    assert len(sink.kept) == 1


class Picky:
    """A sink that takes no event of the unit "poison"."""

    def __init__(self):
        self.kept = []

    def add_events(self, batch):
        if any(each.unit == "poison" for each in batch):
            raise UnstorableEvents("not this one")
        self.kept += batch


@pytest.mark.parametrize("poisoned", [{0}, {7}, {19}, {3, 4, 5}, set(range(20))])
def test_an_event_that_no_store_takes_is_dropped_and_holds_up_no_other(exposure, poisoned):
    sink = Picky()
    log = EventLog(sink, flush_interval_s=60, max_batch=8)
    for number in range(20):
        log.put(exposure(number, unit="poison" if number in poisoned else "u"))
    assert log.flush(10)
    assert [each.prediction_id for each in sink.kept] == [f"p-{n}" for n in range(20) if n not in poisoned]
    assert (log.dropped, log.pending) == (len(poisoned), 0)
    log.close(10)
