"""The files of a model that a load brings along, in Triton's "Model Repository Extension": ``file:1/model.onnx``.

JSON carries them in base64 (RFC 4648), gRPC as bytes. Pure.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from inferd.core.errors import InvalidRequest
from inferd.protocols.shared.json_tensors import kind_of

PREFIX = "file:"
_MAX_FILES = 1000
_MAX_DEPTH = 8
_STEP = 1 << 20
_PATH = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}(/[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}){{0,{_MAX_DEPTH}}}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}/.")


def read_files(parameters: Mapping[str, Any]) -> dict[str, bytes]:
    """The content of each file by its path in the model's folder; {} when there is none.

    Slow for large ones. Raises ``InvalidRequest`` for a path that would leave the folder, and for what is no content.
    """
    given = {name.removeprefix(PREFIX): value for name, value in parameters.items() if name.startswith(PREFIX)}
    if not given:
        return {}
    if len(given) > _MAX_FILES:
        raise InvalidRequest(f"a load takes at most {_MAX_FILES} files, these are {len(given)}")
    for path in given:
        _check(path, given)
    if not any(_VERSION.match(path) for path in given):
        raise InvalidRequest("no file lies in the folder of a version, as file:1/model.onnx does")
    return {path: _content(path, value) for path, value in given.items()}


def _check(path: str, given: Mapping[str, Any]) -> None:
    if not _PATH.fullmatch(path):
        raise InvalidRequest(
            f"{PREFIX}{path[:100]} is no path of a file in a model's folder: at most {_MAX_DEPTH + 1} names of "
            "letters, digits, '_', '-' and '.', none beginning with '-' or '.', such as file:1/model.onnx",
            path="parameters",
        )
    folders = list(accumulate(path.split("/")[:-1], lambda before, name: f"{before}/{name}"))
    if inside := next((folder for folder in folders if folder in given), None):
        raise InvalidRequest(f"{PREFIX}{inside} cannot be a file and hold {PREFIX}{path}", path="parameters")


def _content(path: str, value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if type(value) is not str:
        raise InvalidRequest(f"{PREFIX}{path} is {kind_of(value)} where its content in base64 is expected")
    try:
        # In pieces, so that a large file does not hold up everybody else.
        pieces = (value[at : at + _STEP] for at in range(0, len(value), _STEP))
        return b"".join(binascii.a2b_base64(piece, strict_mode=True) for piece in pieces)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{PREFIX}{path} is not base64") from None
