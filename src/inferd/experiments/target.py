"""From a variant's target, as it is written, to the ticket of a version that is ready."""

from __future__ import annotations

from functools import lru_cache

from inferd.abc import Target
from inferd.serving.servable import Ticket
from inferd.serving.table import Table


def find_ticket(target: str, table: Table) -> Ticket | None:
    """The ticket of ``model``, ``model@3`` or ``model@label``; None while nothing ready answers to it."""
    return table.tickets.get(_parse(target))


@lru_cache(1024)
def _parse(target: str) -> Target:
    """Remembered: it is asked for each request of an experiment, and takes 1 us."""
    model, _, version = target.partition("@")
    if not version:
        return Target(model)
    return Target(model, int(version) if version.isdigit() else version)
