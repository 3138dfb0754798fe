"""What callers over gRPC get wrong: each mistake its status and its words, and the server goes on."""

import contextlib
import socket
import struct

import numpy as np
import pytest
from grpc_support import HALVES, TYPED, message, strict_request

from inferd.core.tensors import numpy_dtype
from inferd.protocols.grpc.wire import length_field, varint
from inferd.protocols.oip.grpc.contents import FIELDS
from mutations import mutations

RAW = 7


def field(number, kind, content):
    """A field of any wire type, well or badly formed."""
    return varint(number << 3 | kind) + content


def raw_request(raw, shape=(1, 2), datatype="FP32", model="strict", name="x", **more):
    return message(
        "ModelInferRequest",
        model_name=model,
        inputs=[{"name": name, "datatype": datatype, "shape": shape}],
        raw_input_contents=raw,
        **more,
    ).SerializeToString()


def typed_request(contents, shape=(1, 2), datatype="FP32", model="strict", name="x"):
    tensor = {"name": name, "datatype": datatype, "shape": shape}
    if contents is not None:
        tensor["contents"] = contents
    return message("ModelInferRequest", model_name=model, inputs=[tensor]).SerializeToString()


def all_inputs(model, datatypes, wrong, change):
    """A request to a model of many inputs, all right but the raw contents of one."""
    raw = []
    for name in datatypes:
        empty = b"\0" * 8 if name == "BYTES" else np.zeros((1, 2), numpy_dtype(name)).tobytes()
        raw.append(change(empty) if name == wrong else empty)
    tensors = [{"name": name, "datatype": name, "shape": [1, 2]} for name in datatypes]
    return message("ModelInferRequest", model_name=model, inputs=tensors, raw_input_contents=raw).SerializeToString()


def wrong_sizes():
    for model, datatypes in (("wide", TYPED), ("halves", HALVES)):
        for name in datatypes:
            yield f"raw {name} a byte short", all_inputs(model, datatypes, name, lambda raw: raw[:-1])
            yield f"raw {name} a byte long", all_inputs(model, datatypes, name, lambda raw: raw + b"\0")
            yield f"raw {name} empty", all_inputs(model, datatypes, name, lambda raw: b"")


def wrong_contents():
    value = {"bool_contents": True, "bytes_contents": b"a"}
    for datatype in TYPED:
        expected = FIELDS[datatype]
        for name in sorted({*FIELDS.values()}):
            if name != expected:
                one = {name: [value.get(name, 1)] * 2}
                yield f"{datatype} in {name}", typed_request(one, datatype=datatype, model="wide", name=datatype)
    for datatype in HALVES:
        yield f"typed {datatype}", typed_request({}, datatype=datatype, model="halves", name=datatype)
    yield "typed, too few values", typed_request({"fp32_contents": [1]})
    yield "typed, too many values", typed_request({"fp32_contents": [1, 2, 3]})
    yield "no contents at all", typed_request(None)


SHAPES = {
    "a negative size": (-1, 2),
    "the least size": (-(2**63), 2),
    "two negative sizes": (-1, -2),
    "a product beyond 64 bits": (2**62, 2**62),
    "a product that wraps to 2": (2**63 - 1, 2, 2**63 - 1),
    "a product that hides behind 0": (0, 2**62, 2**62),
    "a product beyond memory": (2**40, 2),
    "a rank of 40": (1,) * 40,
    "a rank of 1": (2,),
    "no rank": (),
    "another width": (2, 1),
}
BYTES = {
    "a length past the end": struct.pack("<I", 99) + b"ab",
    "the greatest length": b"\xff\xff\xff\xff" + b"ab",
    "a length cut off": b"\1\0",
    "an element too many": struct.pack("<I", 0) * 3,
    "an element too few": struct.pack("<I", 0),
    "more after the last": struct.pack("<II", 0, 0) + b"x",
    "the first eats the second": struct.pack("<I", 8) + struct.pack("<I", 0) + b"abcd",
}
VALUES = struct.pack("<2f", 1, 2)
VALID = raw_request([VALUES], id="a")
REQUESTS = {
    "no message": b"\xff\xff\xff",
    "text": b"hello there, this is no protobuf",
    "JSON": b'{"model_name": "strict"}',
    "only zeros": b"\0" * 64,
    "a tag of field 0": b"\2\0" + VALID,
    "a varint that does not end": VALID + b"\xff" * 12,
    "a varint at the end cut off": VALID + field(4, 0, b"\x80"),
    "a length past the end": VALID + field(5, 2, varint(100)) + b"short",
    "a length of 2^63": VALID + field(5, 2, varint(2**63)),
    "a raw length past the end": VALID + field(RAW, 2, varint(1 << 40)),
    "a group": VALID + field(9, 3, b"") + field(9, 4, b""),
    "a group that only ends": VALID + field(9, 4, b""),
    "wire type 6": VALID + field(9, 6, b"\0"),
    "wire type 7": VALID + field(9, 7, b"\0"),
    "a fixed32 cut off": VALID + field(9, 5, b"\0\0"),
    "a fixed64 cut off": VALID + field(9, 1, b"\0\0"),
    "a name that is not UTF-8": length_field(1, b"\xff") + VALID[8:],
    "a version that is not UTF-8": VALID + length_field(2, b"\xff"),
    "an id that is not UTF-8": VALID + length_field(3, b"\xff"),
    "a tensor that is no message": VALID + length_field(5, b"\xff"),
    "an output that is no message": VALID + length_field(6, b"\xff"),
    "a parameter that is no message": VALID + length_field(4, b"\xff"),
    "5,000 fields": VALID + field(9, 2, b"\0") * 5000,
    "no model": raw_request([VALUES], model=""),
    "raw tensors missing": message(
        "ModelInferRequest",
        model_name="wide",
        inputs=[{"name": name, "datatype": name, "shape": [1, 2]} for name in TYPED],
        raw_input_contents=[b"\0" * 8],
    ).SerializeToString(),
    "a raw tensor too many": raw_request([VALUES, VALUES]),
    "raw and typed": message(
        "ModelInferRequest",
        model_name="strict",
        inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 2], "contents": {"fp32_contents": [1, 2]}}],
        raw_input_contents=[VALUES],
    ).SerializeToString(),
    "no inputs": message("ModelInferRequest", model_name="strict").SerializeToString(),
    "an unknown input": raw_request([VALUES], name="z"),
    "an input twice": message(
        "ModelInferRequest",
        model_name="strict",
        inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 2]}] * 2,
        raw_input_contents=[VALUES] * 2,
    ).SerializeToString(),
    "an input without a name": raw_request([VALUES], name=""),
    "an unknown datatype": raw_request([VALUES], datatype="FP31"),
    "no datatype": raw_request([VALUES], datatype=""),
    "another datatype": raw_request([VALUES * 2], datatype="FP64"),
    "an unknown output": raw_request([VALUES], outputs=[{"name": "z"}]),
    "an output twice": raw_request([VALUES], outputs=[{"name": "y"}, {"name": "y"}]),
    "an output without a name": raw_request([VALUES], outputs=[{}]),
    "a parameter without a value": raw_request([VALUES], parameters={"a": {}}),
    "timeout negative": raw_request([VALUES], parameters={"timeout": {"int64_param": -1}}),
    "timeout a text": raw_request([VALUES], parameters={"timeout": {"string_param": "1"}}),
    "priority true": raw_request([VALUES], parameters={"priority": {"bool_param": True}}),
    "sequence_id too long": raw_request([VALUES], parameters={"sequence_id": {"string_param": "s" * 129}}),
    "sequence_id a fraction": raw_request([VALUES], parameters={"sequence_id": {"double_param": 0.5}}),
    "sequence_start 1": raw_request([VALUES], parameters={"sequence_start": {"int64_param": 1}}),
    "a parameter that is no number": raw_request([VALUES], parameters={"a": {"double_param": float("nan")}}),
    "classification 0": raw_request(
        [VALUES], outputs=[{"name": "y", "parameters": {"classification": {"int64_param": 0}}}]
    ),
    "classification a text": raw_request(
        [VALUES], outputs=[{"name": "y", "parameters": {"classification": {"string_param": "3"}}}]
    ),
    **{f"shape: {name}": raw_request([VALUES], shape=shape) for name, shape in SHAPES.items()},
    **{f"typed shape: {name}": typed_request({"fp32_contents": [1, 2]}, shape=shape) for name, shape in SHAPES.items()},
    **{f"BYTES: {name}": all_inputs("wide", TYPED, "BYTES", lambda _, raw=raw: raw) for name, raw in BYTES.items()},
    **dict(wrong_sizes()),
    **dict(wrong_contents()),
}


def test_the_corpus_is_large_enough():
    assert len(REQUESTS) >= 150
    assert len({*REQUESTS.values()}) == len(REQUESTS)


@pytest.fixture
def unharmed(served):
    """The server answers as before once the test is over."""
    yield served
    status, details, answer = served.infer(strict_request(id="after"))
    assert (status, details, answer.id) == ("OK", "", "after")


@pytest.mark.parametrize("body", REQUESTS.values(), ids=REQUESTS)
def test_a_mistake_is_told_and_the_server_goes_on(unharmed, body):
    status, details, _ = unharmed.raw_call("ModelInfer", body)
    assert status == "INVALID_ARGUMENT", details
    assert details
    for leak in ("Traceback", ".py", "site-packages"):
        assert leak not in details


def test_a_message_cut_off_anywhere_is_told(unharmed):
    for length in range(len(VALID)):
        status, details, _ = unharmed.raw_call("ModelInfer", VALID[:length])
        assert status in ("INVALID_ARGUMENT", "NOT_FOUND"), (length, details)


@pytest.mark.parametrize("body", list(REQUESTS.values())[::10], ids=list(REQUESTS)[::10])
def test_a_mistake_in_a_stream_is_told_there(unharmed, body):
    call = unharmed.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    answers = list(call(iter([body, VALID]), timeout=20))
    assert len(answers) == 2
    assert message("ModelStreamInferResponse").FromString(answers[0]).error_message
    good = message("ModelStreamInferResponse").FromString(answers[1])
    assert (good.error_message, good.infer_response.id) == ("", "a")


CALLERS = {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}
TYPED_REQUEST = typed_request({"fp32_contents": [1, 2]})


@pytest.mark.parametrize("good", [VALID, TYPED_REQUEST], ids=["raw", "typed"])
def test_no_mutation_of_a_message_is_the_servers_mistake(unharmed, good):
    for body in mutations(good, count=300, seed=7):
        status, details, _ = unharmed.raw_call("ModelInfer", body)
        assert status in CALLERS, (body, details)


def test_no_mutation_of_a_message_ends_a_stream(unharmed):
    call = unharmed.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    sent = list(mutations(VALID, count=300, seed=8))
    assert len(list(call(iter(sent), timeout=60))) == len(sent)


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex"])
@pytest.mark.parametrize("body", [b"\xff\xff", b"\x0a\x05ab", b"\x0a\x01\xff"])
def test_garbage_for_another_method_is_told(unharmed, method, body):
    assert unharmed.raw_call(method, body)[0] == "INVALID_ARGUMENT"


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload):
    """HTTP/2, section 4.1."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def headers_of_a_call(changes):
    """The headers and the message of one call, each header a literal that is not indexed (HPACK, section 6.2.2)."""
    headers = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/inference.GRPCInferenceService/ModelInfer",
        b":authority": b"localhost",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
        **changes,
    }
    fields = [bytes((0, len(name))) + name + bytes((len(value),)) + value for name, value in headers.items()]
    return PREFACE + frame(4, 0, 0, b"") + frame(1, 4, 1, b"".join(fields)) + frame(0, 1, 1, b"\0\0\0\0\0")


FRAMES = {
    "HTTP/1": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 32,
    "no preface": b"\0" * 64,
    "a frame of 16 MiB": PREFACE + b"\xff\xff\xff\0\0\0\0\0\1" + b"x" * 100,
    "data on no stream": PREFACE + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\5\0\0\0\0\0\1hello",
    "an unknown frame": PREFACE + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\4\xfe\0\0\0\0\1junk",
    "headers that are no HPACK": PREFACE + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\4\1\4\0\0\0\1\xff\xff\xff\xff",
    "settings of 1 byte": PREFACE + b"\0\0\1\4\0\0\0\0\0\1",
    "a path that is not UTF-8": headers_of_a_call({b":path": b"/inference.GRPCInferenc\xff/ModelInfer"}),
    "a path that is empty": headers_of_a_call({b":path": b""}),
    "a path of NUL": headers_of_a_call({b":path": b"/\0/\0"}),
    "a host that is not UTF-8": headers_of_a_call({b":authority": b"\xff"}),
    "metadata that is not UTF-8": headers_of_a_call({b"x-api-key": b"\xff\xfe"}),
    "metadata whose name is not UTF-8": headers_of_a_call({b"\xff": b"a"}),
    "binary metadata that is no base64": headers_of_a_call({b"trace-bin": b"*"}),
    "a timeout that is no time": headers_of_a_call({b"grpc-timeout": b"soon"}),
    "a timeout of 0": headers_of_a_call({b"grpc-timeout": b"0n"}),
    "GET": headers_of_a_call({b":method": b"GET"}),
    "another content type": headers_of_a_call({b"content-type": b"text/html"}),
    "an unknown message encoding": headers_of_a_call({b"grpc-encoding": b"brotli"}),
    "a window of 0": PREFACE + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\4\x08\0\0\0\0\0\0\0\0\0",
}


@pytest.mark.parametrize("garbage", FRAMES.values(), ids=FRAMES)
def test_garbage_on_the_port_ends_nothing_for_good(served, garbage):
    """grpcio's asyncio server, which not everybody uses, ends all calls at some of it; then it is started again."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(garbage)
        with contextlib.suppress(OSError):  # the server may have closed already
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass
    served.process.wait_for(lambda: served.infer(strict_request())[0] == "OK")
    assert "defect" not in served.process.output
