"""The watch goes on, whatever a look brings."""

import asyncio
import logging

import pytest

from inferd.core.errors import ConfigError
from inferd.repository.completeness import Completeness
from inferd.server.watch import RepositoryWatch


class Looks:
    """A repository that raises what it is told, one look after the other."""

    def __init__(self, *outcomes):
        self.outcomes = iter(outcomes)
        self.over = asyncio.Event()

    async def rescan(self):
        outcome = next(self.outcomes, None)
        if outcome is None:
            self.over.set()
        else:
            raise outcome


@pytest.mark.anyio
async def test_a_look_that_fails_is_not_the_last(caplog):
    looks = Looks(ConfigError("gone"), ConfigError("gone"), RuntimeError("a defect"), RuntimeError("a defect"))
    watch = RepositoryWatch(looks, Completeness(), (), interval_s=0.01, settle_s=0.01)
    with caplog.at_level(logging.INFO, "inferd.server"):
        task = asyncio.create_task(watch.run())
        await asyncio.wait_for(looks.over.wait(), 30)
        task.cancel()
    said = [(record.getMessage(), bool(record.exc_info)) for record in caplog.records]
    assert said[:2] == [
        ("the repository cannot be read, what serves goes on: gone", False),
        ("the repository cannot be read, what serves goes on: RuntimeError('a defect')", True),
    ]
    assert {message for message, _ in said[2:]} <= {"the repository can be read again"}
