"""What ``/predict`` carries in: forms, datatypes, text, NPY; every value exactly."""

import base64
import json
from contextlib import suppress

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferd.core.errors import InvalidRequest, MalformedRequest
from inferd.core.tensors import DATATYPES, Signature, TensorSpec
from inferd.protocols.native.codec import NativeCodec
from inferd.protocols.native.example import example_request
from inferd.protocols.shared.npy import write_npy, write_npz

OUTPUTS = (TensorSpec("y", "FP32", (-1,)),)


def codec(*inputs: TensorSpec, batchable: bool = True, nan: str = "error", outputs=OUTPUTS, **options) -> NativeCodec:
    return NativeCodec(Signature(inputs, outputs), batchable=batchable, nan=nan, **options)


def decode(model: NativeCodec, body: object, **headers: bytes):
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return model.decode(body if isinstance(body, bytes) else orjson.dumps(body), named)[0]


@pytest.mark.parametrize("rank", range(1, 9))
def test_each_rank_goes_through_both_forms(rank: int) -> None:
    array = np.arange(2**rank, dtype=np.float32).reshape((2,) * rank)
    for shape in ((-1,) + (2,) * (rank - 1), (-1,) * rank):
        model = codec(TensorSpec("x", "FP32", shape))
        for body in ({"instances": array.tolist()}, {"inputs": {"x": array.tolist()}}, {"inputs": array.tolist()}):
            np.testing.assert_array_equal(decode(model, body).inputs["x"], array, strict=True)


def test_a_scalar_is_one_instance_of_a_model_without_batches() -> None:
    model = codec(TensorSpec("x", "FP32", ()), batchable=False)
    assert decode(model, {"instances": [3]}).inputs["x"].shape == ()
    assert decode(model, {"inputs": 3}).inputs["x"] == 3


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("INT64", [2**63 - 1, -(2**63), 2**53 + 1]),
        ("UINT64", [2**64 - 1, 0, 2**53 + 1]),
        ("FP64", [0.1, 5e-324, 1.7976931348623157e308]),
        ("INT8", [-128, 127, 0]),
        ("BOOL", [True, False, True]),
    ],
)
@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_extremes_arrive_exactly(key: str, datatype: str, values: list) -> None:
    assert decode(codec(TensorSpec("x", datatype, (-1,))), {key: values}).inputs["x"].tolist() == values


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_precision_comes_as_numbers(datatype: str) -> None:
    spec = TensorSpec("x", datatype, (-1, 2))
    got = decode(codec(spec), {"instances": [[1.5, -2]]}).inputs["x"]
    assert got.dtype == spec.dtype
    assert got.astype(float).tolist() == [[1.5, -2.0]]
    with pytest.raises(InvalidRequest, match="out of the range"):
        decode(codec(spec), {"instances": [[3.4e38 if datatype == "BF16" else 65520, 0]]})


def test_text_and_bytes() -> None:
    model = codec(TensorSpec("t", "BYTES", (-1,)))
    rows = ["a", 'quo"te', "é", {"b64": base64.b64encode(b"\x00\xff\x00").decode()}]
    want = [b"a", b'quo"te', "é".encode(), b"\x00\xff\x00"]
    for body in (
        {"instances": rows},
        {"inputs": rows},
        {"inputs": {"t": rows}},
        {"instances": [{"t": r} for r in rows]},
    ):
        assert decode(model, body).inputs["t"].tolist() == want
    assert decode(model, {"instances": rows[3:]}).inputs["t"].tolist() == want[3:]


def test_objects_by_input_name() -> None:
    model = codec(TensorSpec("age", "INT64", (-1,)), TensorSpec("pixels", "FP32", (-1, 2)))
    inputs = decode(model, {"instances": [{"age": 1, "pixels": [1, 2]}, {"pixels": [3, 4], "age": 2}]}).inputs
    assert inputs["age"].tolist() == [1, 2]
    assert inputs["pixels"].tolist() == [[1, 2], [3, 4]]


def test_optional_inputs_may_be_absent() -> None:
    model = codec(TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "FP32", (-1,), optional=True))
    assert list(decode(model, {"instances": [{"a": 1}, {"a": 2}]}).inputs) == ["a"]
    assert decode(model, {"instances": [{"a": 1, "b": 2}]}).inputs["b"].tolist() == [2]
    assert list(decode(model, {"inputs": {"a": [1]}}).inputs) == ["a"]


@pytest.mark.parametrize("spec", [TensorSpec("x", "FP32", (-1, 4)), TensorSpec("x", "BYTES", (-1,))])
def test_no_instances_are_tensors_of_no_rows(spec: TensorSpec) -> None:
    assert decode(codec(spec), b'{"instances":[]}').inputs["x"].shape == (0, *spec.shape[1:])
    two = codec(spec, TensorSpec("o", "INT64", (-1,)))
    assert decode(two, b'{"instances":[]}').inputs["o"].shape == (0,)


def test_a_whole_tensor_is_the_one_instance_of_a_model_without_batches() -> None:
    model = codec(TensorSpec("x", "FP32", (2, 2)), batchable=False)
    assert decode(model, {"instances": [[[1, 2], [3, 4]]]}).inputs["x"].tolist() == [[1, 2], [3, 4]]
    assert decode(model, {"instances": [{"x": [[1, 2], [3, 4]]}]}).inputs["x"].shape == (2, 2)
    assert decode(model, {"inputs": [[1, 2], [3, 4]]}).inputs["x"].shape == (2, 2)


def test_parameters_and_wanted_outputs_are_handed_on() -> None:
    outputs = (TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "FP32", (-1,)))
    model = codec(TensorSpec("x", "FP32", (-1,)), outputs=outputs, select_outputs=("a",))
    assert decode(model, {"instances": [1]}).wanted == ("a",)
    request = decode(model, {"instances": [1], "outputs": ["b"], "parameters": {"k": [1, {"deep": "ü"}]}})
    assert request.wanted == ("b",)
    assert request.parameters == {"k": [1, {"deep": "ü"}]}


def test_parameters_do_not_depend_on_the_reader() -> None:
    model = codec(TensorSpec("x", "FP32", (-1,)))
    parameters = b'"parameters":{"n":18446744073709551616,"s":"%s"}}'
    fast = decode(model, b'{"instances":[1],' + parameters % b"a").parameters
    exact = decode(model, b'{"instances":[1],' + parameters % b'\\"').parameters
    assert fast["n"] == exact["n"]
    assert type(fast["n"]) is type(exact["n"])
    with pytest.raises(InvalidRequest, match="out of range"):
        decode(model, b'{"instances":[1],"parameters":{"n":1e400}}')


class TestNanPolicies:
    SPEC = TensorSpec("x", "FP32", (-1, 3))

    def test_null_means_nan(self) -> None:
        got = decode(codec(self.SPEC, nan="null"), b'{"instances":[[1,null,3]]}').inputs["x"]
        np.testing.assert_array_equal(got, np.array([[1, np.nan, 3]], np.float32))

    def test_names_mean_what_they_say(self) -> None:
        got = decode(codec(self.SPEC, nan="string"), b'{"instances":[["NaN","Infinity","-Infinity"]]}').inputs["x"]
        np.testing.assert_array_equal(got, np.array([[np.nan, np.inf, -np.inf]], np.float32))

    @pytest.mark.parametrize("policy", ["null", "string"])
    def test_bare_tokens_are_read_by_models_that_accept_such_values(self, policy: str) -> None:
        got = decode(codec(self.SPEC, nan=policy), b'{"instances":[[NaN,Infinity,-Infinity]]}').inputs["x"]
        np.testing.assert_array_equal(got, np.array([[np.nan, np.inf, -np.inf]], np.float32))

    @pytest.mark.parametrize(("policy", "row"), [("null", b'"NaN"'), ("string", b"null"), ("error", b'"NaN"')])
    def test_another_policys_spelling_is_refused(self, policy: str, row: bytes) -> None:
        with pytest.raises(InvalidRequest) as caught:
            decode(codec(self.SPEC, nan=policy), b'{"instances":[[%b,1,1]]}' % row)
        assert caught.value.details["path"] == "instances[0][0]"

    @pytest.mark.parametrize("policy", ["null", "string"])
    def test_a_number_out_of_range_is_never_infinity(self, policy: str) -> None:
        for number in (b"1e400", b"1e39"):
            with pytest.raises(InvalidRequest, match="out of the range"):
                decode(codec(self.SPEC, nan=policy), b'{"instances":[[%b,Infinity,1]]}' % number)

    def test_integers_have_no_nan(self) -> None:
        with pytest.raises(InvalidRequest):
            decode(codec(TensorSpec("x", "INT64", (-1,)), nan="null"), b'{"instances":[null]}')


class TestNpy:
    IMAGE = TensorSpec("x", "FP32", (-1, 3, 224, 224))

    def test_an_image_is_not_copied(self) -> None:
        body = write_npy(np.random.default_rng(0).random((1, 3, 224, 224), np.float32))
        got = decode(codec(self.IMAGE), body, content_type=b"application/x-npy").inputs["x"]
        assert got.shape == (1, 3, 224, 224)
        assert np.shares_memory(got, np.frombuffer(body, np.uint8))

    def test_several_inputs_come_in_an_archive(self) -> None:
        model = codec(TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "BYTES", (-1,)))
        body = write_npz({"a": np.ones(2, np.float32), "b": np.array(["x", "é"])})
        inputs = decode(model, body, content_type=b"application/x-npz").inputs
        assert inputs["a"].tolist() == [1, 1]
        assert inputs["b"].tolist() == [b"x", "é".encode()]

    def test_one_tensor_is_not_enough_for_two_inputs(self) -> None:
        model = codec(TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "FP32", (-1,)))
        with pytest.raises(InvalidRequest, match="x-npz"):
            decode(model, write_npy(np.ones(2)), content_type=b"application/x-npy")

    def test_an_archive_with_a_wrong_name_is_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="unknown input 'z'"):
            decode(codec(self.IMAGE), write_npz({"z": np.ones(2)}), content_type=b"application/x-npz")


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("shape", [(-1,), (-1, 2), (-1, -1, 3)])
@pytest.mark.parametrize("batchable", [True, False])
@pytest.mark.parametrize("inputs", [1, 2])
def test_the_example_is_accepted_as_it_is(datatype: str, shape: tuple, batchable: bool, inputs: int) -> None:
    specs = tuple(TensorSpec(f"in{number}", datatype, shape) for number in range(inputs))
    signature = Signature((*specs, TensorSpec("more", "FP32", (-1,), optional=True)), OUTPUTS)
    for each in (signature, Signature(specs, OUTPUTS)):
        body = example_request(each, batchable=batchable)
        request, _ = NativeCodec(each, batchable=batchable, nan="error").decode(orjson.dumps(body), {})
        assert list(request.inputs) == [spec.name for spec in specs]


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:0123456789.eE-+ntrufalsi\\ ', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused_by_name(body: bytes) -> None:
    for model in (
        codec(TensorSpec("x", "FP32", (-1, 2))),
        codec(TensorSpec("a", "BYTES", (-1,)), TensorSpec("b", "INT8", (-1, -1)), nan="null"),
    ):
        for content in (b"application/json", b"application/x-npy", b"application/x-npz"):
            with suppress(MalformedRequest, InvalidRequest):
                model.decode(body, {b"content-type": content})


@given(st.integers(0, 40), st.integers(0, 3), st.sampled_from(["1", None, [1], True, 1e39]))
def test_one_wrong_value_is_found_wherever_it_stands(row: int, column: int, wrong: object) -> None:
    rows: list = [[1.0] * 4 for _ in range(41)]
    rows[row][column] = wrong
    for shape in ((-1, 4), (-1, -1)):
        with pytest.raises(InvalidRequest) as caught:
            decode(codec(TensorSpec("x", "FP32", shape)), {"instances": rows})
        assert caught.value.details["path"] == f"instances[{row}][{column}]"


@given(st.integers(1, 40), st.integers(0, 5).filter(lambda size: size != 4))
def test_the_first_ragged_row_is_named(row: int, size: int) -> None:
    rows = [[1.0] * (size if position >= row else 4) for position in range(41)]
    with pytest.raises(InvalidRequest) as caught:
        decode(codec(TensorSpec("x", "FP32", (-1, -1))), {"instances": rows})
    assert caught.value.details["path"] == f"instances[{row}]"


def test_a_scalar_is_taken_in_column_form():
    scalar = codec(TensorSpec("a", "FP64", ()), batchable=False)
    assert decode(scalar, {"inputs": {"a": 2.5}}).inputs["a"].shape == ()


json_trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "b64"]), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["instances", "inputs", "outputs", "parameters", "x"]), json_trees, max_size=3))
def test_any_json_is_read_or_refused_by_name(tree: dict) -> None:
    for model in (
        codec(TensorSpec("a", "FP32", (-1, 2))),
        codec(TensorSpec("a", "BYTES", (-1,))),
        codec(TensorSpec("a", "BYTES", (-1,)), TensorSpec("b", "INT8", (-1, -1), optional=True), nan="string"),
        codec(TensorSpec("a", "FP64", ()), batchable=False, nan="null"),
    ):
        with suppress(MalformedRequest, InvalidRequest):
            model.decode(json.dumps(tree).encode(), {})
