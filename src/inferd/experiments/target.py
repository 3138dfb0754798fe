"""From a variant's target, as it is written, to the ticket of a version that is ready."""

from __future__ import annotations

from inferd.abc import Target
from inferd.serving.servable import Ticket
from inferd.serving.table import Table


def find_ticket(target: str, table: Table) -> Ticket | None:
    """The ticket of ``model``, ``model@3`` or ``model@label``; None while nothing ready answers to it."""
    model, _, version = target.partition("@")
    if not version:
        return table.tickets.get(Target(model))
    return table.tickets.get(Target(model, int(version) if version.isdigit() else version))
