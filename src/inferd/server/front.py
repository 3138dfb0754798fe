"""What both fronts share: routes, guard, limits, request ids, the block of default headers."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inferd.abc import Endpoint
from inferd.core.errors import HeadersTooLarge, InferdError, PayloadTooLarge
from inferd.protocols.native.endpoints import DIALECT
from inferd.protocols.shared.endpoint import Dialect
from inferd.server.guard import Guard

_VALID_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_PREFIX = secrets.token_hex(6)
_next_number = itertools.count(1).__next__


def new_request_id(headers: Mapping[bytes, bytes]) -> str:
    """The caller's ``X-Request-Id`` when it is 1 to 128 visible ASCII characters, else a new one: a random prefix of
    this process and a counter (0.2 µs; a random UUID takes 2.7)."""
    given = headers.get(b"x-request-id")
    if given is not None and _VALID_ID.fullmatch(given):
        return given.decode("ascii")
    return f"{_PREFIX}-{_next_number():x}"


@dataclass(slots=True)
class Front:
    """Shared by all connections of a server. ``routes`` maps raw hot paths to endpoints and is replaced whole;
    ``dialects`` maps the start of a path to how errors are worded there, the native way elsewhere."""

    guard: Guard
    max_body_bytes: int = 64 << 20
    max_header_bytes: int = 64 << 10
    header_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    keep_alive_s: float = 75.0
    access_log: Callable[[Any, tuple[str, int] | None, int], None] | None = None
    routes: Mapping[bytes, Endpoint] = field(default_factory=dict)
    dialects: Mapping[bytes, Dialect] = field(default_factory=dict)
    default_headers: Sequence[tuple[bytes, bytes]] | None = None
    default_block: bytes = b""
    max_body_digits: int = 0

    def __post_init__(self) -> None:
        self.max_body_digits = len(str(self.max_body_bytes))

    def dialect(self, path: bytes) -> Dialect:
        """How errors on ``path`` are worded."""
        for prefix, dialect in self.dialects.items():
            if path.startswith(prefix):
                return dialect
        return DIALECT

    def render_default(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Date and server as header lines; uvicorn makes a new list once a second."""
        self.default_headers = headers
        self.default_block = b"".join(b"%b: %b\r\n" % pair for pair in headers)

    def check_header_bytes(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raise ``HeadersTooLarge`` when names and values together are over the limit."""
        if sum(len(name) + len(value) for name, value in headers) > self.max_header_bytes:
            raise self.headers_too_large()

    def headers_too_large(self) -> HeadersTooLarge:
        """The error for headers over the limit."""
        return HeadersTooLarge(f"the headers are over the limit of {self.max_header_bytes} bytes")

    def too_large(self) -> PayloadTooLarge:
        """The error for a body over the limit."""
        return PayloadTooLarge(
            f"the body is over the limit of {self.max_body_bytes} bytes",
            expected=f"at most {self.max_body_bytes} bytes",
            hint="the server's limit is its setting max_body_mb",
        )

    def refusal(self, error: InferdError) -> tuple[int, bytes, bytes]:
        """Status, header lines and problem document for what never became a request."""
        request_id = new_request_id({})
        status, body = DIALECT.phrase(error, request_id)
        return status, b"content-type: %b\r\nx-request-id: %b\r\n" % (DIALECT.error_type, request_id.encode()), body
