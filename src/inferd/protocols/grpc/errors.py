"""Word an error as a gRPC status: its number, and its message as text."""

from __future__ import annotations

from inferd.core.errors import Code, InferdError
from inferd.protocols.shared.status import GRPC_STATUS

CONTENT_TYPE = b"application/grpc"


def phrase(error: Exception, request_id: str) -> tuple[int, bytes]:
    """Status and message of ``error``; of anything but an ``InferdError`` the caller learns the request's id only."""
    if not isinstance(error, InferdError):
        text = f"the server failed; the log has the details under the request id {request_id}"
        return GRPC_STATUS[Code.INTERNAL], text.encode()
    hint = error.details.get("hint")
    text = f"{error.message}; {hint}" if hint else error.message
    return GRPC_STATUS[error.code], text.encode("utf-8", "backslashreplace")
