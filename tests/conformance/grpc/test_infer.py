"""``ModelInfer``: every datatype both ways, exact; what is asked of an answer; who may ask."""

import ml_dtypes
import numpy as np
import pytest
from grpc_support import HALVES, TYPED, message, strict_request

from inferd.core.tensors import numpy_dtype
from inferd.protocols.oip.grpc.contents import FIELDS

VALUES = {
    "BOOL": [[True, False]],
    "INT8": [[-128, 127]],
    "INT16": [[-(2**15), 2**15 - 1]],
    "INT32": [[-(2**31), 2**31 - 1]],
    "INT64": [[-(2**63), 2**53 + 1]],
    "UINT8": [[0, 255]],
    "UINT16": [[0, 2**16 - 1]],
    "UINT32": [[0, 2**32 - 1]],
    "UINT64": [[2**53 + 1, 2**64 - 1]],
    "FP16": [[65504.0, -0.0]],
    "FP32": [[1e38, float("-inf")]],
    "FP64": [[1e308, 5e-324]],
    "BF16": [[1.5, 3.3895e38]],
    "BYTES": [[b"", b"\xff\x00 not text"]],
}


# Written by hand from the service's file: field numbers and wire types, lengths, values.
TENSOR = b"\n\x01x\x12\x04FP32\x1a\x02\x01\x02"
Y_ONLY = b"2\x03\n\x01y"
OUTPUT = b"\n\x01y\x12\x04FP32\x1a\x02\x01\x02"
ONE_TWO, TWO_FOUR = np.array([1, 2], "<f4").tobytes(), np.array([2, 4], "<f4").tobytes()
GOLDEN = {
    "raw": (
        b"\n\x06strict" + b"\x1a\x02id" + b"*\x0d" + TENSOR + Y_ONLY + b":\x08" + ONE_TWO,
        b"\n\x06strict" + b"\x12\x011" + b"\x1a\x02id" + b"*\x0d" + OUTPUT + b"2\x08" + TWO_FOUR,
    ),
    "typed": (
        b"\n\x06strict" + b"\x12\x011" + b"*\x19" + TENSOR + b"*\x0a" + b"2\x08" + ONE_TWO + Y_ONLY,
        b"\n\x06strict" + b"\x12\x011" + b"*\x19" + OUTPUT + b"*\x0a" + b"2\x08" + TWO_FOUR,
    ),
}


def array_of(datatype):
    return np.array(VALUES[datatype], dtype=numpy_dtype(datatype))


def raw_of(datatype):
    if datatype != "BYTES":
        return array_of(datatype).tobytes()
    return b"".join(len(item).to_bytes(4, "little") + item for item in VALUES["BYTES"][0])


def tensors(datatypes):
    return [{"name": name, "datatype": name, "shape": [1, 2]} for name in datatypes]


def typed_request(**more):
    inputs = [{**each, "contents": {FIELDS[each["name"]]: VALUES[each["name"]][0]}} for each in tensors(TYPED)]
    return message("ModelInferRequest", model_name="wide", inputs=inputs, **more)


@pytest.mark.parametrize(("model", "datatypes"), [("wide", TYPED), ("halves", HALVES)])
def test_raw_tensors_of_every_datatype_come_back_byte_for_byte(served, model, datatypes):
    raw = [raw_of(name) for name in datatypes]
    request = message(
        "ModelInferRequest", model_name=model, inputs=tensors(datatypes), raw_input_contents=raw, id="seven"
    )
    for _ in range(2):  # the second time from what was remembered
        status, details, answer = served.infer(request)
        assert (status, details) == ("OK", "")
        assert (answer.model_name, answer.model_version, answer.id) == (model, "1", "seven")
        assert [(out.name, out.datatype, list(out.shape)) for out in answer.outputs] == [
            (f"out_{name}", name, [1, 2]) for name in datatypes
        ]
        assert list(answer.raw_output_contents) == raw


def test_typed_tensors_of_every_datatype_come_back_typed_and_exact(served):
    status, details, answer = served.infer(typed_request())
    assert (status, details) == ("OK", "")
    assert not answer.raw_output_contents
    for out, name in zip(answer.outputs, TYPED, strict=True):
        values = list(getattr(out.contents, FIELDS[name]))
        assert values == np.array(VALUES[name][0], dtype=numpy_dtype(name)).tolist(), name


def test_a_typed_request_may_ask_for_a_raw_answer(served):
    status, _, answer = served.infer(typed_request(parameters={"binary_data_output": {"bool_param": True}}))
    assert status == "OK"
    assert list(answer.raw_output_contents) == [raw_of(name) for name in TYPED]


def test_bf16_values_keep_their_bits(served):
    array = np.array([[1.0, -2.5]], ml_dtypes.bfloat16)
    request = message(
        "ModelInferRequest",
        model_name="halves",
        inputs=tensors(HALVES),
        raw_input_contents=[raw_of("FP16"), array.tobytes()],
        outputs=[{"name": "out_BF16"}],
    )
    _, _, answer = served.infer(request)
    (raw,) = answer.raw_output_contents
    assert np.frombuffer(raw, ml_dtypes.bfloat16).tolist() == [1.0, -2.5]


def test_outputs_are_those_asked_for_in_their_order(served):
    _, _, answer = served.infer(strict_request(outputs=[{"name": "name"}, {"name": "y"}]))
    assert [out.name for out in answer.outputs] == ["name", "y"]
    _, _, answer = served.infer(strict_request(outputs=[{"name": "y"}]))
    assert [out.name for out in answer.outputs] == ["y"]
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [2.0, 4.0]


def test_classes_come_as_text(served):
    asked = [{"name": "y", "parameters": {"classification": {"int64_param": 1}}}]
    _, _, answer = served.infer(strict_request(outputs=asked))
    (out,) = answer.outputs
    assert (out.datatype, list(out.shape)) == ("BYTES", [1, 1])
    assert answer.raw_output_contents[0] == b"\x0a\x00\x00\x004.000000:1"


def test_no_rows_are_answered_with_no_rows(served):
    _, _, answer = served.infer(strict_request(np.empty((0, 2))))
    assert [list(out.shape) for out in answer.outputs] == [[0, 2], [0]]
    assert list(answer.raw_output_contents) == [b"", b""]


def test_a_version_may_be_named(served):
    assert served.infer(strict_request(model_version="1"))[0] == "OK"


def test_a_large_tensor_is_decoded_beside_the_loop(served):
    values = np.arange(400_000, dtype=np.float32).reshape(-1, 2)
    _, _, answer = served.infer(strict_request(values, outputs=[{"name": "y"}]))
    assert np.array_equal(np.frombuffer(answer.raw_output_contents[0], np.float32), values.reshape(-1) * 2)


def test_the_order_of_fields_does_not_matter(served):
    """Another encoder may write the tensors first, and split a message over several fields."""
    request = strict_request()
    raw = message("ModelInferRequest", raw_input_contents=request.raw_input_contents).SerializeToString()
    request.ClearField("raw_input_contents")
    status, _, answer = served.raw_call("ModelInfer", raw + request.SerializeToString() + b"\x1a\x02me")
    assert status == "OK"
    assert b"\x1a\x02me" in answer


def test_a_binary_size_says_nothing_where_raw_contents_follow(served):
    request = strict_request()
    request.inputs[0].parameters["binary_data_size"].int64_param = 8
    assert served.infer(request) == served.infer(strict_request())
    assert served.infer(request)[0] == "OK"


@pytest.mark.parametrize("form", GOLDEN)
def test_the_bytes_of_question_and_answer_are_golden(served, form):
    asked, answered = GOLDEN[form]
    assert served.raw_call("ModelInfer", asked) == ("OK", "", answered)


def test_an_unknown_field_means_nothing(served):
    assert served.raw_call("ModelInfer", strict_request().SerializeToString() + b"\x7a\x01x\x80\x01\x05")[0] == "OK"


def test_a_models_own_refusal_is_the_callers_mistake_and_its_failure_shows_nothing(served):
    status, details, _ = served.infer(strict_request([[-1, 0]]))
    assert (status, "minus one" in details) == ("INVALID_ARGUMENT", True)
    status, details, _ = served.infer(strict_request([[-2, 0]]))
    assert status == "INTERNAL"
    assert "secret" not in details
    assert "Traceback" not in details
