"""The queue before the store."""

from threading import Event

from inferd.experiments.log import ExposureLog


class Flaky:
    """A sink that fails until it is told to work."""

    def __init__(self):
        self.works = Event()
        self.failed = Event()
        self.kept = []

    def add_exposures(self, batch):
        if not self.works.is_set():
            self.failed.set()
            raise OSError("the disk is gone")
        self.kept += batch


def test_a_dead_store_holds_nobody_up_and_what_waits_is_written_later(exposure):
    sink = Flaky()
    log = ExposureLog(sink, max_pending=10, flush_interval_s=0.001)
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
    log = ExposureLog(sink, flush_interval_s=60)
    log.put(exposure())
    log.close(10)
    assert len(sink.kept) == 1
