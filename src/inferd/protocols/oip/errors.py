"""Word an error as the Open Inference Protocol does: ``{"error": "..."}``, with a status that knows no 422."""

from __future__ import annotations

import orjson

from inferd.core.errors import InferdError
from inferd.protocols.shared.status import http_status_plain

CONTENT_TYPE = b"application/json"


def phrase(error: Exception, request_id: str) -> tuple[int, bytes]:
    """Status and body of ``error``; of anything but an ``InferdError`` the caller learns the request's id only."""
    if isinstance(error, InferdError):
        hint = error.details.get("hint")
        text = f"{error.message}; {hint}" if hint else error.message
    else:
        text = f"the server failed; the log has the details under the request id {request_id}"
    return http_status_plain(error), orjson.dumps({"error": text})
