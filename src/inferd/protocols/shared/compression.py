"""Bodies as gzip, deflate (RFC 9110, 8.4.1) or zstd (RFC 8878): read with a bound on what they expand to, written when
it pays. zstd is on offer where Python has it (3.14) or the extra ``zstd`` is installed."""

from __future__ import annotations

import zlib
from functools import lru_cache
from importlib import import_module
from typing import Any

from inferd.core.errors import MalformedRequest, PayloadTooLarge, UnsupportedMediaType


def _find_zstd() -> Any:
    for module in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(module)
        except ImportError:
            continue
    return None


zstd = _find_zstd()
MIN_BYTES = 1024
MAX_BYTES = 1 << 20
"""Larger answers go out as they are: compressing one would hold up everybody else's for tens of milliseconds."""
_LEVEL = 1
_SAMPLE_BYTES = 4096
_WORTH_IT = 0.8
_GZIP, _ZLIB, _RAW = 31, 15, -15
_WBITS = {b"gzip": _GZIP, b"deflate": _ZLIB}
_ENCODINGS = (*_WBITS, b"zstd") if zstd is not None else tuple(_WBITS)
"""Of those a caller likes equally, the first."""


def decompress(body: bytes, encoding: bytes, max_bytes: int) -> bytes:
    """``body`` as it was before ``encoding``, a ``Content-Encoding`` of one step.

    Raises ``UnsupportedMediaType`` for other encodings, ``PayloadTooLarge`` once it has expanded to more than
    ``max_bytes``, and ``MalformedRequest`` for what is damaged, cut off or followed by more.
    """
    encoding = encoding.strip().lower().removeprefix(b"x-")
    if encoding in (b"identity", b""):
        return body
    if encoding not in _ENCODINGS:
        raise UnsupportedMediaType(
            f"the content encoding {encoding[:40].decode('latin-1')!r} is not read here; "
            f"send {', '.join(each.decode() for each in _ENCODINGS)} or the plain body",
            got=encoding[:40].decode("latin-1"),
            expected=[each.decode() for each in _ENCODINGS],
        )
    stream, damaged = _decompressor(encoding, body)
    try:
        plain: bytes = stream.decompress(body, max_bytes + 1)
    except damaged:
        raise MalformedRequest(f"the body is not {encoding.decode()} as its Content-Encoding says") from None
    if len(plain) > max_bytes:
        raise PayloadTooLarge(f"the body expands to more than {max_bytes} bytes", expected=f"at most {max_bytes} bytes")
    if not stream.eof or stream.unused_data:
        what = "ends before" if not stream.eof else "goes on after"
        raise MalformedRequest(f"the {encoding.decode()} body {what} the end of its stream")
    return plain


def _decompressor(encoding: bytes, body: bytes) -> tuple[Any, type[Exception]]:
    """What reads ``encoding``, with ``decompress``, ``eof`` and ``unused_data``; and what it raises."""
    if zstd is not None and encoding == b"zstd":
        return zstd.ZstdDecompressor(), zstd.ZstdError
    wbits = _WBITS[encoding]
    if encoding == b"deflate" and not _is_zlib(body):
        wbits = _RAW  # RFC 9110 wants the zlib wrapper; some clients leave it out
    return zlib.decompressobj(wbits), zlib.error


def _is_zlib(body: bytes) -> bool:
    """Whether ``body`` begins with a zlib header (RFC 1950, 2.2)."""
    return len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0


@lru_cache(maxsize=64)
def accepted_encoding(header: bytes) -> bytes:
    """The encoding to answer in by an ``Accept-Encoding`` header: gzip, deflate, zstd, or "" for none."""
    weights: dict[bytes, float] = {}
    for part in header.lower().split(b","):
        name, _, parameter = part.partition(b";")
        try:
            weights[name.strip()] = float(parameter.strip().removeprefix(b"q=") or 1)
        except ValueError:
            weights[name.strip()] = 0.0
    any_other = weights.get(b"*", 0.0)
    best = max(_ENCODINGS, key=lambda encoding: weights.get(encoding, any_other))
    return best if weights.get(best, any_other) > 0 else b""


def compress(body: bytes, encoding: bytes) -> bytes | None:
    """``body`` in ``encoding``, or None when it is too small, too large, or does not shrink."""
    if not MIN_BYTES <= len(body) <= MAX_BYTES:
        return None
    sample = body[:_SAMPLE_BYTES]
    if len(zlib.compress(sample, _LEVEL)) > _WORTH_IT * len(sample):
        return None
    if zstd is not None and encoding == b"zstd":
        smaller: bytes = zstd.compress(body, level=_LEVEL)
        return smaller
    return zlib.compress(body, _LEVEL, _WBITS[encoding])
