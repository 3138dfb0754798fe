"""The forms a request may have: where it goes, how a tensor is written into it and read from its answer."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

HEADER_LENGTH = "Inference-Header-Content-Length"
Read = Callable[[bytes, Mapping[str, str]], np.ndarray]


@dataclass(frozen=True, slots=True)
class Message:
    """One request; ``headers`` beside its content type."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Form:
    """``path`` may name the model as ``{}``; ``write`` makes a request, ``read`` takes the tensor from an answer's body
    and its headers, whose names are in lower case."""

    name: str
    path: str
    content_type: str
    write: Callable[[np.ndarray], Message]
    read: Read


def _rows(tensor: np.ndarray) -> list[list[float]]:
    return [[round(float(value), 6) for value in row] for row in tensor]


def _write_json(tensor: np.ndarray) -> Message:
    return Message(json.dumps({"instances": _rows(tensor)}).encode())


def _read_json(body: bytes, headers: Mapping[str, str]) -> np.ndarray:
    return np.array(json.loads(body)["predictions"], np.float32)


def _write_npy(tensor: np.ndarray) -> Message:
    buffer = io.BytesIO()
    np.save(buffer, tensor)
    return Message(buffer.getvalue())


def _read_npy(body: bytes, headers: Mapping[str, str]) -> np.ndarray:
    array: np.ndarray = np.load(io.BytesIO(body))
    return array


def _write_v2(tensor: np.ndarray) -> Message:
    data = [value for row in _rows(tensor) for value in row]
    entry = {"name": "x", "shape": list(tensor.shape), "datatype": "FP32", "data": data}
    return Message(json.dumps({"inputs": [entry]}).encode())


def _read_v2(body: bytes, headers: Mapping[str, str]) -> np.ndarray:
    output = json.loads(body)["outputs"][0]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def _write_v2_binary(tensor: np.ndarray) -> Message:
    parameters = {"binary_data_size": tensor.nbytes}
    entry = {"name": "x", "shape": list(tensor.shape), "datatype": "FP32", "parameters": parameters}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    return Message(head + tensor.tobytes(), {HEADER_LENGTH: str(len(head))})


def _read_v2_binary(body: bytes, headers: Mapping[str, str]) -> np.ndarray:
    size = int(headers[HEADER_LENGTH.lower()])
    return np.frombuffer(body[size:], np.float32).reshape(json.loads(body[:size])["outputs"][0]["shape"])


JSON = Form("json", "/predict", "application/json", _write_json, _read_json)
NPY = Form("npy", "/predict", "application/x-npy", _write_npy, _read_npy)
V2 = Form("v2", "/v2/models/{}/infer", "application/json", _write_v2, _read_v2)
V2_BINARY = Form("v2-binary", "/v2/models/{}/infer", "application/octet-stream", _write_v2_binary, _read_v2_binary)
TFSERVING = Form("tfserving", "/v1/models/{}:predict", "application/json", _write_json, _read_json)
