"""Every HTTP protocol against the same ways of getting JSON and HTTP wrong: each gets its 4xx, JSON in the protocol's
own shape, and the server serves on."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from fronts_support import Double, Served, request

from mutations import mutations


class Embedder:
    inputs = {"text": "BYTES[-1]"}
    outputs = {"embedding": "FP32[-1, 2]"}
    batchable = True

    def predict(self, text):
        return np.float32([[2, 4]] * len(text))


DOORS = ("sagemaker", "vertex", "mlflow", "torchserve")
NATIVE = {"type", "title", "status", "detail", "code", "request_id"}


@dataclass(frozen=True)
class Route:
    """Where a protocol takes JSON: ``body`` has ``%b`` where the rows stand. ``error`` are members of its errors."""

    door: str
    path: str
    body: bytes
    error: set[str]
    good: bytes = b"[[1, 2]]"

    def message(self, rows=b""):
        return self.body % (rows or self.good)


ROUTES = {
    "native": Route("", "/models/double/predict", b'{"instances": %b}', NATIVE),
    "native-columns": Route("", "/models/double/predict", b'{"inputs": {"x": %b}}', NATIVE),
    "v2": Route(
        "",
        "/v2/models/double/infer",
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": %b}]}',
        {"error"},
    ),
    "v2-generate": Route("", "/v2/models/double/generate", b'{"x": %b}', {"error"}),
    "tfserving": Route("", "/v1/models/double:predict", b'{"instances": %b}', {"error"}),
    "tfserving-columns": Route("", "/v1/models/double:predict", b'{"inputs": %b}', {"error"}),
    "openai": Route("", "/v1/embeddings", b'{"model": "embedder", "input": %b}', {"error"}, b'["one"]'),
    "torchserve": Route("torchserve", "/predictions/double", b"%b", {"code", "type", "message"}),
    "sagemaker": Route("sagemaker", "/invocations", b'{"instances": %b}', {"error"}),
    "sagemaker-list": Route("sagemaker", "/invocations", b"%b", {"error"}),
    "vertex": Route("vertex", "/predict", b'{"instances": %b}', {"error"}),
    "mlflow": Route("mlflow", "/invocations", b'{"inputs": %b}', {"error_code", "message"}),
    "mlflow-split": Route(
        "mlflow", "/invocations", b'{"dataframe_split": {"columns": ["a", "b"], "data": %b}}', {"error_code", "message"}
    ),
}
ROWS = {
    "NaN": b"[[NaN, 2]]",
    "-Infinity": b"[[1, -Infinity]]",
    "a number beyond 64 bits": b"[[1e400, 2]]",
    "a number beyond 32 bits": b"[[1, 1e39]]",
    "an integer of 5,000 digits": b"[[1, " + b"9" * 5000 + b"]]",
    "2,000 levels": b"[" * 2000 + b"]" * 2000,
    "100,000 opening brackets": b"[" * 100_000,
    "objects in objects": b'{"a":' * 500 + b"1" + b"}" * 500,
    "bad UTF-8": b'[["\xff", 2]]',
    "half a surrogate pair": b'[["\\ud800", 2]]',
    "a text": b'[["1", 2]]',
    "null": b"[[1, null]]",
    "true": b"[[true, 2]]",
    "an object for a number": b"[[1, {}]]",
    "a list for a number": b"[[1, [2]]]",
    "ragged rows": b"[[1, 2], [3]]",
    "ragged rows whose count fits": b"[[1], [2, 3, 4]]",
    "a row too narrow": b"[[1]]",
    "a row too wide": b"[[1, 2, 3]]",
    "an object of rows": b'{"a": [1, 2]}',
    "a text of rows": b'"[[1, 2]]"',
    "a leading zero": b"[[01, 2]]",
    "a hexadecimal number": b"[[0x1, 2]]",
    "a plus sign": b"[[+1, 2]]",
    "a point at the end": b"[[1., 2]]",
    "a bare point": b"[[.5, 2]]",
    "a comma at the end": b"[[1, 2],]",
    "two commas": b"[[1,, 2]]",
    "no comma": b"[[1 2]]",
    "single quotes": b"[['1', 2]]",
    "a comment": b"[[1, 2 /* two */]]",
    "a control character": b'[["\x01", 2]]',
    "an escape that is none": b'[["\\x41", 2]]',
    "brackets that do not match": b"[[1, 2]}",
}
WHOLES = {
    "nothing": lambda good: b"",
    "blanks": lambda good: b" \r\n\t",
    "NUL bytes": lambda good: bytes(len(good)),
    "cut off": lambda good: good[:-1],
    "cut off in the middle": lambda good: good[: len(good) // 2],
    "more at the end": lambda good: good + b" x",
    "twice": lambda good: good + good,
    "a byte order mark": lambda good: b"\xef\xbb\xbf" + good,
    "UTF-16": lambda good: good.decode().encode("utf-16"),
    "UTF-32": lambda good: good.decode().encode("utf-32"),
    "null": lambda good: b"null",
    "a text": lambda good: b'"instances"',
    "true": lambda good: b"true",
    "pickle": lambda good: b"\x80\x04\x95\x10\x00\x00\x00.",
    "a form": lambda good: b"instances=1&instances=2",
    "XML": lambda good: b"<instances/>",
    "a member twice": lambda good: good[:-1] + b", " + good[1:],
    "an unknown member": lambda good: good[:-1] + b', "nonsense": 1}',
}
OBJECTS_ONLY = ("a member twice", "an unknown member")
# What one protocol takes after all: there it is a parameter, or a text.
TAKEN = {("v2-generate", "an unknown member"), ("openai", "a text of rows")}


def messages():
    for name, route in ROUTES.items():
        for what, rows in ROWS.items():
            yield name, what, route.message(rows)
        for what, change in WHOLES.items():
            if route.body.startswith(b"{") or what not in OBJECTS_ONLY:
                yield name, what, change(route.message())


MESSAGES = {f"{name}: {what}": (name, body) for name, what, body in messages() if (name, what) not in TAKEN}


class Listening:
    """A server with every door, and one connection to each that goes on from message to message."""

    def __init__(self, front):
        doors = tuple(f"{name}=0" for name in DOORS)
        others = {"embedder": Embedder()}
        self.served = Served(Double(), others, front=front, door=doors, default_model="double")
        ports = [int(url.rpartition(":")[2]) for url in self.served.handle.door_urls]
        self.ports = {"": self.served.port, **dict(zip(DOORS, ports, strict=True))}
        self.wires = {}

    def ask(self, route, body, *headers):
        """The answer, on the connection that the last one left open."""
        port = self.ports[route.door]
        wire = self.wires.pop(port, None) or self.served.wire(port)
        reply = wire.send(request(route.path, body, headers=(*headers, "Content-Type: application/json"))).read()
        if reply.headers.get("connection") != "close":
            self.wires[port] = wire
        return reply


@pytest.fixture(scope="module", params=["hot", "asgi"])
def listening(request):
    listening = Listening(request.param)
    yield listening
    listening.served.stop()


@pytest.mark.parametrize("name", MESSAGES)
def test_each_is_refused_in_the_protocols_own_shape_and_the_next_is_served(listening, name):
    protocol, body = MESSAGES[name]
    route = ROUTES[protocol]
    reply = listening.ask(route, body)
    assert reply.status in (400, 422), (body[:200], reply.body[:500])
    assert route.error <= json.loads(reply.body).keys()
    for leak in (b"Traceback", b".py", b"site-packages"):
        assert leak not in reply.body
    good = listening.ask(route, route.message())
    assert (good.status, b"2.0,4.0" in good.body.replace(b" ", b"").replace(b"\n", b"")) == (200, True), good.body


@pytest.mark.parametrize("name", ROUTES)
def test_no_mutation_of_a_message_gets_a_5xx(listening, name):
    route = ROUTES[name]
    for body in mutations(route.message(), count=150, seed=7):
        reply = listening.ask(route, body)
        assert reply.status in (200, 400, 404, 422), (body, reply.body[:500])
    assert listening.ask(route, route.message()).status == 200


GOOD = b'{"instances": [[1, 2]]}'
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
FRAMES = {
    "a length that is negative": HEAD + b"Content-Length: -1\r\n\r\n" + GOOD,
    "a length in hexadecimal": HEAD + b"Content-Length: 0x17\r\n\r\n" + GOOD,
    "a length that is a float": HEAD + b"Content-Length: 2.3e1\r\n\r\n" + GOOD,
    "a length with a sign": HEAD + b"Content-Length: +23\r\n\r\n" + GOOD,
    "a length that is empty": HEAD + b"Content-Length:\r\n\r\n" + GOOD,
    "a length beyond 64 bits": HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n" + GOOD,
    "a length beyond the limit": HEAD + b"Content-Length: 99999999999\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 23\r\nContent-Length: 24\r\n\r\n" + GOOD,
    "two lengths in one": HEAD + b"Content-Length: 23, 24\r\n\r\n" + GOOD,
    "a length and chunks": HEAD + b"Content-Length: 23\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk's size that is no number": CHUNKED + b"xyz\r\n",
    "a chunk's size that is negative": CHUNKED + b"-1\r\n",
    "a chunk's size beyond 64 bits": CHUNKED + b"F" * 20 + b"\r\n",
    "a chunk longer than its size": CHUNKED + b"2\r\n{}x\r\n0\r\n\r\n",
    "an unknown transfer coding": HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "a header without a colon": HEAD + b"nonsense\r\n\r\n",
    "a header without a name": HEAD + b": nonsense\r\n\r\n",
    "a blank before the colon": HEAD + b"Content-Length : 23\r\n\r\n" + GOOD,
    "a NUL in a header": HEAD + b"X-A: a\x00b\r\n\r\n",
    "a line feed alone in a header": HEAD + b"X-A: a\nContent-Length: 23\r\n\r\n" + GOOD,
    "a header over the limit": HEAD + b"X-A: " + b"a" * 70_000 + b"\r\n\r\n",
    "headers over the limit": HEAD + b"X-A: aaaaaaaaaaaa\r\n" * 5000 + b"\r\n",
    "no method": b" /predict HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an unknown method": b"FROB /predict HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another protocol": b"POST /predict SMTP/1.1\r\nHost: localhost\r\n\r\n",
    "a version that is none": b"POST /predict HTTP/x\r\nHost: localhost\r\n\r\n",
    "no version": b"POST /predict\r\nHost: localhost\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "bytes": bytes(range(256)),
    "another host": b"GET /v2 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "a path that climbs": b"GET /v2/../admin/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path that climbs unseen": b"GET /v2/%2e%2e/admin/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an empty segment": b"GET //v2 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path of 60,000 letters": b"GET /v2/models/" + b"m" * 60_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path that is not UTF-8": b"GET /v2/models/%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a NUL in the path": b"GET /v2/models/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("name", FRAMES)
def test_broken_http_is_refused_and_the_next_connection_is_served(listening, name):
    wire = listening.served.wire().send(FRAMES[name])
    reply = wire.read()
    wire.close()
    assert 400 <= reply.status < 500, reply
    good = listening.served.ask(HEAD + b"Content-Length: 23\r\n\r\n" + GOOD)
    assert good.body == b'{"predictions":[[2.0,4.0]]}'


def test_there_are_two_hundred_distinct_messages_and_more():
    bodies = {(ROUTES[protocol].path, body) for protocol, body in MESSAGES.values()}
    assert len(bodies) + len(set(FRAMES.values())) >= 500
