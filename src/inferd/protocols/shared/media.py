"""Which of the content types that a route reads and writes a caller means."""

from __future__ import annotations

from email.message import Message
from functools import lru_cache

from inferd.core.errors import NotAcceptable, UnsupportedMediaType

JSON, NPY, NPZ = b"application/json", b"application/x-npy", b"application/x-npz"
JSON_HINT = {"hint": "with curl -d, add -H 'Content-Type: application/json'"}
"""A detail of an error: curl says a form's type where nobody names another."""
_FORM = b"application/x-www-form-urlencoded"


@lru_cache(maxsize=64)
def body_type(header: bytes | None, known: tuple[bytes, ...]) -> bytes:
    """Which of the ``known`` types a body has by its ``Content-Type``; JSON when there is none. Raises
    ``UnsupportedMediaType``."""
    if header is None:
        return JSON
    message = Message()
    message["content-type"] = header.decode("latin-1")
    kind = message.get_content_type().encode()
    charset = message.get_content_charset("utf-8")
    if kind not in known or charset not in ("utf-8", "utf8"):
        raise UnsupportedMediaType(
            f"the content type is not accepted; send one of {_listed(known)} (text in UTF-8)",
            got=header.decode("latin-1")[:100],
            expected=list(map(bytes.decode, known)),
            **(JSON_HINT if kind == _FORM and JSON in known else {}),
        )
    return kind


@lru_cache(maxsize=64)
def accepted_types(header: bytes | None, known: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The ``known`` types an ``Accept`` header allows, best first (RFC 9110, 12.5.1), the first known before others of
    equal weight; JSON when there is none. Raises ``NotAcceptable`` when it allows none."""
    if header is None or not header.strip():
        return (JSON,)
    ranges = [_range(part) for part in header.decode("latin-1").lower().split(",") if part.strip()]
    weights = {kind: _weight(kind.decode(), ranges) for kind in known}
    result = tuple(kind for kind in sorted(known, key=lambda kind: -weights[kind]) if weights[kind] > 0)
    if not result:
        raise NotAcceptable(
            f"none of the accepted types can be given; accept one of {_listed(known)}",
            got=header.decode("latin-1")[:100],
            expected=list(map(bytes.decode, known)),
        )
    return result


def _listed(kinds: tuple[bytes, ...]) -> str:
    return ", ".join(map(bytes.decode, kinds))


def _range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip() for piece in part.split(";"))
    quality = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
    try:
        return name, float(quality)
    except ValueError:
        return name, 0.0


def _weight(kind: str, ranges: list[tuple[str, float]]) -> float:
    """Of the most specific range that covers ``kind``."""
    for name in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        for given, quality in ranges:
            if given == name:
                return quality
    return 0.0
