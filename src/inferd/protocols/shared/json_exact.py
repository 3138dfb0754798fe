"""The one JSON reader that decides what is refused as not JSON, and says at which byte.

Slow, and met only when a faster reader failed or was in doubt. Grammar: RFC 8259, read strictly: no byte order mark,
no repeated name in an object, nesting up to ``MAX_DEPTH``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, NoReturn

from inferd.core.errors import MalformedRequest

MAX_DEPTH = 64
_MAX_DIGITS = 4300
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?Infinity|NaN|-?\d+|[][{}:]', re.DOTALL)
_BOM = b"\xef\xbb\xbf"
_CONTAINERS = {list, dict}


class TooDeep(Exception):
    """A tree nests deeper than ``MAX_DEPTH``."""


class TooLarge:
    """A number literal beyond the range of a 64-bit float; kept as text to be named in an error."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def read_exact(body: bytes, *, non_finite: bool) -> Any:
    """The value of ``body``; numbers beyond float64 come as ``TooLarge``.

    The bare tokens NaN, Infinity and -Infinity are read only when ``non_finite``. Raises ``MalformedRequest`` with
    ``offset`` in bytes.
    """
    text = _text(body)
    try:
        value = json.loads(
            text,
            parse_float=_float,
            parse_constant=float if non_finite else _refuse_constant,
            object_pairs_hook=_unique,
        )
        for _ in levels_of(value):
            pass
    except json.JSONDecodeError as error:
        _refuse(f"the body is not JSON: {error.msg[:1].lower()}{error.msg[1:]}", text, error.pos)
    except (RecursionError, TooDeep):
        _refuse(f"the body nests deeper than {MAX_DEPTH} levels", text, _depth_position(text))
    except _Constant as error:
        _refuse(
            f"the body holds {error}, which is not JSON, and the model's NaN policy is 'error'",
            text,
            _position(text, "NaN", "Infinity", "-Infinity"),
            hint='set nan = "null" or nan = "string" in the model\'s model.toml, or serve with --nan, to accept it',
        )
    except _Repeated:
        _refuse("a name is given twice in one object", text, _repeated_position(text))
    except ValueError:
        _refuse(f"the body holds an integer of more than {_MAX_DIGITS} digits", text, _digits_position(text))
    if "\\u" in text:
        _refuse_surrogates(value, text)
    return value


def _text(body: bytes) -> str:
    if not body.strip(b" \t\r\n"):
        raise MalformedRequest("the body is empty where a JSON object is expected", offset=0)
    if body.startswith(_BOM):
        raise MalformedRequest("the body starts with a byte order mark, which JSON does not allow", offset=0)
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise MalformedRequest(f"the body is not UTF-8 at byte {error.start}", offset=error.start) from None


def _refuse(message: str, text: str, position: int, **details: object) -> NoReturn:
    offset = len(text[:position].encode())
    raise MalformedRequest(f"{message} (byte {offset})", offset=offset, **details) from None


class _Constant(Exception):
    pass


class _Repeated(Exception):
    pass


def _refuse_constant(token: str) -> NoReturn:
    raise _Constant(token)


def _float(token: str) -> float | TooLarge:
    value = float(token)
    return TooLarge(token) if math.isinf(value) else value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _Repeated
    return result


def levels_of(tree: Any) -> Iterator[tuple[list[Any], set[type]]]:
    """The values at each depth and their types, the root first; raises ``TooDeep`` below ``MAX_DEPTH`` containers.

    By depth and not by branch, so that a long array of short ones costs no call for each.
    """
    level = [tree]
    for _ in range(MAX_DEPTH + 1):
        kinds = set(map(type, level))
        yield level, kinds
        if kinds.isdisjoint(_CONTAINERS):
            return
        arrays = level if kinds == {list} else [item for item in level if type(item) is list]
        objects = [item.values() for item in level if type(item) is dict] if dict in kinds else []
        level = [*chain.from_iterable(arrays), *chain.from_iterable(objects)]
    raise TooDeep


def count_strings(tree: Any) -> int:
    """How many strings, names included, ``tree`` was written with if no name was repeated in an object.

    Two quotation marks each: a body with more of them repeats a name or escapes one, and must be read exactly.
    """
    strings = 0
    for level, kinds in levels_of(tree):
        if str in kinds:
            strings += sum(1 for item in level if type(item) is str)
        if dict in kinds:
            strings += sum(len(item) for item in level if type(item) is dict)
    return strings


def _refuse_surrogates(value: Any, text: str) -> None:
    """Half of an escaped surrogate pair is no character, so it could never be written back as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        _refuse("a string holds half of a surrogate pair", text, _surrogate_position(text))


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    return ((match.group(), match.start()) for match in _TOKEN.finditer(text))


def _position(text: str, *wanted: str) -> int:
    return next((at for token, at in _tokens(text) if token in wanted), 0)


def _digits_position(text: str) -> int:
    return next((at for token, at in _tokens(text) if token[0] != '"' and len(token) > _MAX_DIGITS), 0)


def _surrogate_position(text: str) -> int:
    for token, at in _tokens(text):
        if "\\u" in token:
            try:
                json.loads(token).encode()
            except UnicodeEncodeError:
                return at
    return 0


def _depth_position(text: str) -> int:
    depth = 0
    for token, at in _tokens(text):
        depth += (token in "[{") - (token in "]}")
        if depth > MAX_DEPTH:
            return at
    return 0


def _repeated_position(text: str) -> int:
    names: list[set[str]] = []
    string, string_at = "", 0
    for token, at in _tokens(text):
        if token[0] == '"':
            string, string_at = token, at
        elif token in "[{":
            names.append(set())
        elif token in "]}":
            names.pop()
        elif token == ":":
            name = json.loads(string)
            if name in names[-1]:
                return string_at
            names[-1].add(name)
    return 0
