"""Each error of the one table, in the words and with the status of each protocol."""

import orjson
import pytest

from inferd.core.errors import InferdError, InvalidInput
from inferd.protocols.grpc.errors import phrase as grpc_phrase
from inferd.protocols.mlflow import adapter as mlflow
from inferd.protocols.native import endpoints as native
from inferd.protocols.oip import adapter as oip
from inferd.protocols.openai import adapter as openai
from inferd.protocols.sagemaker import adapter as sagemaker
from inferd.protocols.shared.status import GRPC_STATUS, HTTP_STATUS
from inferd.protocols.tfserving import adapter as tfserving
from inferd.protocols.torchserve import inference as torchserve
from inferd.protocols.vertex import adapter as vertex

SHAPES = {
    native: {"type", "title", "status", "detail", "code", "request_id"},
    oip: {"error"},
    tfserving: {"error"},
    torchserve: {"code", "type", "message"},
    sagemaker: {"error"},
    vertex: {"error"},
    mlflow: {"error_code", "message"},
    openai: {"error"},
}
by_protocol = pytest.mark.parametrize("protocol", SHAPES, ids=lambda each: each.DIALECT.protocol)


def made(kind: type[InferdError]) -> InferdError:
    """One of that class; not each is made from a message alone."""
    error = kind.__new__(kind)
    InferdError.__init__(error, "what is wrong, and what to do")
    return error


@by_protocol
@pytest.mark.parametrize("kind", HTTP_STATUS, ids=lambda each: each.__name__)
def test_an_error_has_its_status_and_the_protocols_own_shape(protocol, kind):
    status, body = protocol.DIALECT.phrase(made(kind), "r1")
    expected = HTTP_STATUS[kind]
    assert status == (400 if expected == 422 and protocol is not native else expected)
    told = orjson.loads(body)
    assert SHAPES[protocol] <= told.keys()
    assert "what is wrong, and what to do" in body.decode()
    if "code" in told and protocol is torchserve:
        assert told["code"] == status


@pytest.mark.parametrize("kind", HTTP_STATUS, ids=lambda each: each.__name__)
def test_over_grpc_it_has_the_status_of_its_code(kind):
    assert grpc_phrase(made(kind), "r1") == (GRPC_STATUS[kind.code], b"what is wrong, and what to do")


@by_protocol
def test_what_is_not_ours_tells_the_requests_id_alone(protocol):
    status, body = protocol.DIALECT.phrase(RuntimeError("/etc/shadow"), "r1")
    assert (status, b"r1" in body, b"shadow" in body) == (500, True, False)


@by_protocol
def test_a_model_may_word_its_refusal_as_it_likes(protocol):
    """Text that is not UTF-8 would otherwise leave the caller without any answer."""
    status, body = protocol.DIALECT.phrase(InvalidInput('"\udcff\n\0'), "r1")
    assert status in (400, 422)
    assert orjson.loads(body)
