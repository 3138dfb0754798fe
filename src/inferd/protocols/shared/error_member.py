"""Word an error as ``{"error": "..."}``, as the Open Inference Protocol and TF Serving do, by a status table without
422."""

from __future__ import annotations

import orjson

from inferd.core.errors import InferdError
from inferd.protocols.shared.status import http_status_plain

CONTENT_TYPE = b"application/json"


def explain_briefly(error: Exception, request_id: str) -> str:
    """One sentence for the caller; of anything but an ``InferdError`` it learns the request's id only."""
    if not isinstance(error, InferdError):
        return f"the server failed; the log has the details under the request id {request_id}"
    hint = error.details.get("hint")
    return f"{error.message}; {hint}" if hint else error.message


def phrase(error: Exception, request_id: str) -> tuple[int, bytes]:
    """Status and body of ``error``."""
    return http_status_plain(error), orjson.dumps({"error": explain_briefly(error, request_id)})
