"""Say in the body of a JSON answer what its headers say of it, for callers who cannot read those."""

from __future__ import annotations

import orjson

from inferd.protocols.shared.media import JSON
from inferd.serving.servable import Ticket

DETAILS = b"inferd-details"
"""Request header: with any value, the answer's body says who answered, in the member ``inferd``."""


def with_details(body: bytes, content_type: bytes, ticket: Ticket, request_id: str) -> bytes:
    """``body`` with the member ``inferd`` first: model, version and request, and of an experiment its name, the
    variant, whether the unit was named, and the prediction's id. A body that is no JSON object stays as it is."""
    if content_type != JSON or not body.startswith(b"{"):
        return body
    details: dict[str, object] = {
        "model": ticket.servable.name,
        "model_version": ticket.servable.version,
        "request_id": request_id,
    }
    for line in ticket.head.decode("latin-1").splitlines():
        name, _, value = line.partition(": ")
        details[name.removeprefix("inferd-").replace("-", "_")] = value == "true" if name == "inferd-sticky" else value
    comma = b"" if body.startswith(b"{}") else b","
    return b'{"inferd":%b%b%b' % (orjson.dumps(details), comma, body[1:])
