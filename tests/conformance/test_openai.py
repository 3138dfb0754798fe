"""OpenAI's embeddings route over both fronts: the bytes that go in and come out, and what callers get wrong."""

import base64
import json
import threading

import numpy as np
import pytest
from fronts_support import Double, Served, request


class Embedder:
    """Embeds a text as its length and half of it."""

    inputs = {"text": "BYTES[-1]"}
    outputs = {"embedding": "FP32[-1, 2]"}
    batchable = True
    gate = threading.Event()

    def predict(self, text):
        return np.array([[len(each), len(each) / 2] for each in text], np.float32)


@pytest.fixture(scope="module", params=["hot", "asgi"])
def embedder(request):
    served = Served(Embedder(), front=request.param)
    yield served
    served.stop()


def embed(body, *headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request("/v1/embeddings", body, headers=["Content-Type: application/json", *headers])


BODY = {"model": "double", "input": ["one two", "ü"]}
GOLDEN = (
    b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[7.0,3.5]},'
    b'{"object":"embedding","index":1,"embedding":[2.0,1.0]}],'
    b'"model":"double","usage":{"prompt_tokens":3,"total_tokens":3}}'
)


@pytest.mark.parametrize(
    "more", [{}, {"encoding_format": "float"}, {"dimensions": 2}, {"user": "u"}, {"dimensions": None}]
)
def test_texts_give_the_golden_answer(embedder, more):
    reply = embedder.ask(embed({**BODY, **more}))
    assert (reply.status, reply.body) == (200, GOLDEN)
    assert reply.headers["content-type"] == "application/json"


def test_one_text_gives_one_embedding(embedder):
    assert [each["embedding"] for each in embedder.ask(embed({**BODY, "input": "four"})).json["data"]] == [[4, 2]]


def test_base64_holds_little_endian_floats(embedder):
    data = embedder.ask(embed({**BODY, "encoding_format": "base64"})).json["data"]
    assert [np.frombuffer(base64.b64decode(each["embedding"]), "<f4").tolist() for each in data] == [[7, 3.5], [2, 1]]


WRONG = {
    "nothing": b"",
    "broken JSON": b'{"model": "double", "input": ["a"',
    "a list": [],
    "deep nesting": b"[" * 5000 + b"]" * 5000,
    "no model": {"input": "a"},
    "model a number": {**BODY, "model": 5},
    "no input": {"model": "double"},
    "an empty text": {**BODY, "input": ""},
    "no texts": {**BODY, "input": []},
    "an empty text among others": {**BODY, "input": ["a", ""]},
    "tokens": {**BODY, "input": [1, 2]},
    "lists of tokens": {**BODY, "input": [[1, 2]]},
    "too many texts": {**BODY, "input": ["a"] * 2049},
    "half a surrogate pair": b'{"model": "double", "input": "\\ud800"}',
    "another format": {**BODY, "encoding_format": "int8"},
    "format a list": {**BODY, "encoding_format": ["float"]},
    "other dimensions": {**BODY, "dimensions": 1},
    "dimensions a text": {**BODY, "dimensions": "2"},
    "an unknown member": {**BODY, "inputs": []},
    "a repeated member": b'{"model": "double", "input": "a", "input": "b"}',
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_and_the_server_goes_on(embedder, name):
    reply = embedder.ask(embed(WRONG[name]))
    assert reply.status == 400, reply.body
    assert reply.json["error"]["type"] == "invalid_request_error"
    assert set(reply.json["error"]) == {"message", "type", "param", "code"}
    assert embedder.ask(embed(BODY)).body == GOLDEN


def test_an_unknown_model_and_a_compressed_body_are_refused(embedder):
    reply = embedder.ask(embed({**BODY, "model": "text-embedding-3-small"}))
    assert (reply.status, reply.json["error"]["code"]) == (404, "model_not_found")
    assert embedder.ask(embed(BODY, "Content-Encoding: gzip")).status == 415
    assert embedder.get("/v1/embeddings").status == 405


def test_a_model_that_embeds_no_text_says_so():
    served = Served(Double())
    try:
        reply = served.ask(embed(BODY))
        assert (reply.status, "embeds no text" in reply.json["error"]["message"]) == (400, True)
    finally:
        served.stop()
