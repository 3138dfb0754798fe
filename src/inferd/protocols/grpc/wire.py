"""Hot: the protobuf wire format, as far as it is read and written by hand.

Encoding: "Protocol Buffers: Encoding". Only what would otherwise copy tensors or parse the same header again is done
here; the rest is the library's.
"""

from __future__ import annotations

from inferd.core.errors import MalformedRequest

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MAX_FIELDS = 4096
"""Fields of a message that are walked by hand; more are no request that a model could take."""


def varint(value: int) -> bytes:
    """A number that is not negative."""
    if value < 0x80:
        return bytes((value,))
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def length_field(number: int, content: bytes) -> bytes:
    """A field of text, bytes or a message."""
    return b"%b%b%b" % (varint(number << 3 | LENGTH), varint(len(content)), content)


def read_varint(body: bytes, at: int) -> tuple[int, int]:
    """The number at ``at``, and where the next field begins. Raises ``MalformedRequest``."""
    value = shift = 0
    for place in range(at, min(at + 10, len(body))):
        byte = body[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise broken(at)


def field_end(body: bytes, kind: int, at: int) -> int:
    """Where a field of wire type ``kind`` that begins at ``at`` ends, unless it has a length of its own.

    Raises ``MalformedRequest`` for groups, which proto3 does not have, and for what reaches past the end.
    """
    if kind == VARINT:
        end = read_varint(body, at)[1]
    elif kind in (FIXED32, FIXED64):
        end = at + (4 if kind == FIXED32 else 8)
    else:
        raise broken(at)
    if end > len(body):
        raise broken(at)
    return end


def broken(at: int) -> MalformedRequest:
    """The error for bytes that are no message."""
    return MalformedRequest(f"the message is not valid protobuf at byte {at}", offset=at)


def message_field(body: bytes, number: int) -> bytes:
    """The content of a message's field ``number``, itself a message; pieces of it that come apart belong together.

    Raises ``MalformedRequest``.
    """
    wanted = number << 3 | LENGTH
    found = []
    at = fields = 0
    while at < len(body):
        start = at
        fields += 1
        tag, at = read_varint(body, at)
        if tag & 7 != LENGTH:
            at = field_end(body, tag & 7, at)
            continue
        size, content = read_varint(body, at)
        at = content + size
        if at > len(body) or fields > MAX_FIELDS:
            raise broken(start)
        if tag == wanted:
            found.append(body[content:at])
    return found[0] if len(found) == 1 else b"".join(found)
