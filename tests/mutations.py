"""Seeded mutations of good messages, for tests in which nothing that is sent may do harm."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

PIECES = (
    *(b"", b"null", b"true", b"-1", b"0", b"-0", b"1.5", b"1e39", b"1e999", b"1e-999", b"NaN", b"65520", b"9" * 4400),
    *(b"9223372036854775808", b"18446744073709551616", b"-9223372036854775809", b"1000000000000"),
    *(b"[]", b"{}", b"[[]]", b'""', b'"', b",", b":", b"[", b"]", b"{", b"}", b"[" * 70, b'{"a":' * 70, b'"a":1,'),
    *(b"\\", b"\\u0000", b"\\ud800", b"\xff", b"\0", b"\xc3\xa9", b"\r\n", b'{"b64":"*"}', b"BYTES", b"INT8", b"FP64"),
    *(b"\x80\x80\x80\x80\x80\1", b"\xff" * 9 + b"\1", b"\x7f"),
)
NUMBER = re.compile(rb"-?\d+(\.\d+)?")
TEXT = re.compile(rb'"[^"]*"')


def mutations(good: bytes, count: int, seed: int) -> Iterator[bytes]:
    """``count`` messages, each ``good`` with one to four mistakes; the same for the same ``seed``."""
    chance = random.Random(seed)
    for _ in range(count):
        body = good
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            body = _mutated(body, chance)
        yield body


def _mutated(body: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(body) + 1)
    end = at + chance.randrange(9)
    kind = chance.randrange(7)
    if kind == 0:
        return body[:at]
    if kind == 1:
        return body[:at] + body[at:end] * chance.choice((2, 50)) + body[end:]
    if kind == 2:
        return body[:at] + bytes((chance.randrange(256),)) + body[at + 1 :]
    if kind == 3 and (numbers := list(NUMBER.finditer(body))):
        number = chance.choice(numbers)
        return body[: number.start()] + chance.choice(PIECES) + body[number.end() :]
    if kind == 4 and (texts := list(TEXT.finditer(body))):
        one, other = chance.choice(texts), chance.choice(texts)
        return body[: one.start()] + other[0] + body[one.end() :]
    return body[:at] + chance.choice(PIECES) + body[end if kind == 5 else at :]
