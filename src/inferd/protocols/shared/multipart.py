"""Read the fields of a form: multipart/form-data (RFC 7578, RFC 2046) or application/x-www-form-urlencoded."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from urllib.parse import parse_qsl

from inferd.core.errors import MalformedRequest

URLENCODED, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"
_MAX_FIELDS = 1000
_MAX_BOUNDARY = 70
_MAX_HEADER_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Field:
    """One field; ``content_type`` is "" where none is given, ``data`` shares no memory with the body."""

    name: str
    content_type: str
    data: bytes


def read_form(body: bytes, content_type: Message) -> list[Field]:
    """The fields of ``body``, in order. Raises ``MalformedRequest`` for what is no form of that type, or one of more
    than a thousand fields."""
    if content_type.get_content_type() == MULTIPART:
        return _read_multipart(body, content_type.get_param("boundary"))
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS, encoding="latin-1")
    except ValueError:  # not ASCII, or too many fields
        raise MalformedRequest(f"the body is no {URLENCODED} form of at most {_MAX_FIELDS} fields") from None
    return [Field(name, "", value.encode("latin-1")) for name, value in pairs]


def _read_multipart(body: bytes, boundary: object) -> list[Field]:
    if not isinstance(boundary, str) or not 0 < len(boundary) <= _MAX_BOUNDARY or not boundary.isascii():
        raise MalformedRequest("the content type multipart/form-data lacks its boundary")
    delimiter = b"\r\n--" + boundary.encode()
    _, *parts = (b"\r\n" + body).split(delimiter, _MAX_FIELDS + 2)
    if not parts or not parts[-1].startswith(b"--"):
        raise MalformedRequest("the multipart body does not end with its boundary, or has too many parts")
    return [_read_part(part) for part in parts[:-1]]


def _read_part(part: bytes) -> Field:
    padding, line_end, rest = part.partition(b"\r\n")
    # A part may begin with the empty line that ends its headers.
    head, found, data = (b"", b"\r\n", rest[2:]) if rest.startswith(b"\r\n") else rest.partition(b"\r\n\r\n")
    if padding.strip(b" \t") or not line_end or not found or len(head) > _MAX_HEADER_BYTES:
        raise MalformedRequest("a part of the multipart body lacks its headers")
    headers = BytesHeaderParser().parsebytes(head)
    name = headers.get_param("name", header="content-disposition")
    if not isinstance(name, str):
        raise MalformedRequest("a part of the multipart body has no name")
    return Field(name, headers.get_content_type() if "content-type" in headers else "", data)
