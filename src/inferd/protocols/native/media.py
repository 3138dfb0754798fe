"""Which content types ``/predict`` reads and writes, and which of them a caller means."""

from __future__ import annotations

from email.message import Message
from functools import lru_cache

from inferd.core.errors import NotAcceptable, UnsupportedMediaType

JSON, NPY, NPZ = b"application/json", b"application/x-npy", b"application/x-npz"
_KNOWN = (JSON, NPY, NPZ)
_LISTED = ", ".join(kind.decode() for kind in _KNOWN)


@lru_cache(maxsize=64)
def body_type(header: bytes | None) -> bytes:
    """The type of a body by its ``Content-Type``; JSON when there is none. Raises ``UnsupportedMediaType``."""
    if header is None:
        return JSON
    message = Message()
    message["content-type"] = header.decode("latin-1")
    kind = message.get_content_type().encode()
    charset = message.get_content_charset("utf-8")
    if kind not in _KNOWN or charset not in ("utf-8", "utf8"):
        raise UnsupportedMediaType(
            f"the content type is not accepted; send one of {_LISTED} (JSON in UTF-8)",
            got=header.decode("latin-1")[:100],
            expected=list(map(bytes.decode, _KNOWN)),
        )
    return kind


@lru_cache(maxsize=64)
def accepted_types(header: bytes | None) -> tuple[bytes, ...]:
    """The types an ``Accept`` header allows, best first (RFC 9110, 12.5.1); JSON before others of equal weight.
    Raises ``NotAcceptable`` when it allows none."""
    if header is None or not header.strip():
        return (JSON,)
    ranges = [_range(part) for part in header.decode("latin-1").lower().split(",") if part.strip()]
    weights = {kind: _weight(kind.decode(), ranges) for kind in _KNOWN}
    result = tuple(kind for kind in sorted(_KNOWN, key=lambda kind: -weights[kind]) if weights[kind] > 0)
    if not result:
        raise NotAcceptable(
            f"none of the accepted types can be given; accept one of {_LISTED}",
            got=header.decode("latin-1")[:100],
            expected=list(map(bytes.decode, _KNOWN)),
        )
    return result


def _range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip() for piece in part.split(";"))
    quality = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
    try:
        return name, float(quality)
    except ValueError:
        return name, 0.0


def _weight(kind: str, ranges: list[tuple[str, float]]) -> float:
    """Of the most specific range that covers ``kind``."""
    for name in (kind, "application/*", "*/*"):
        for given, quality in ranges:
            if given == name:
                return quality
    return 0.0
