"""What is kept of two answers that differ."""

import json

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from inferd.experiments.disagreement import MAX_BYTES, MAX_CHARACTERS, MAX_ROWS, MAX_VALUES, describe

TENSORS = st.one_of(
    st_numpy.arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.uint64, np.bool_]),
        st_numpy.array_shapes(min_dims=0, min_side=0),
    ),
    st.lists(st.one_of(st.binary(max_size=4), st.text(max_size=4)), max_size=5).map(
        lambda items: np.array([*items, None], dtype=object)[:-1]
    ),
)
SIDES = st.dictionaries(
    st.sampled_from(["inputs", "control", "variant"]), st.dictionaries(st.sampled_from("ab"), TENSORS)
)


def told(sides, rows=None, redact=(), **more):
    return json.loads(describe(sides, rows, redact, **more))


@given(SIDES, st.one_of(st.none(), st.lists(st.integers(0, 3), max_size=4)))
def test_whatever_was_answered_is_told_as_json(sides, rows):
    assert told(sides, rows, reason="r")["reason"] == "r"


def test_only_the_rows_that_differ_are_told_and_not_too_many():
    sides = {name: {"a": np.arange(20.0).reshape(10, 2)} for name in ("inputs", "control", "variant")}
    found = told(sides, [1, 8])
    assert found["rows_that_differ"] == 2
    assert [row["row"] for row in found["rows"]] == [1, 8]
    assert found["rows"][0]["control"] == {"a": [2.0, 3.0]}
    found = told(sides, list(range(10)))
    assert (found["rows_that_differ"], len(found["rows"])) == (10, MAX_ROWS)


@pytest.mark.parametrize(
    "inputs", [{"a": np.zeros(3)}, {"a": np.zeros(())}, {"a": np.zeros((2, 1)), "b": np.zeros((3, 1))}]
)
def test_tensors_that_are_not_made_of_the_same_rows_are_told_whole(inputs):
    outputs = {"y": np.array([1.0, 2.0])}
    (row,) = told({"inputs": inputs, "control": outputs, "variant": outputs}, [1])["rows"]
    assert "row" not in row
    assert row["control"] == {"y": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("array", "value"),
    [
        (np.array([np.nan, np.inf, -np.inf, 0.5]), ["nan", "inf", "-inf", 0.5]),
        (np.array([2**64 - 1], np.uint64), 2**64 - 1),
        (np.array([True, False]), [True, False]),
        (np.array([0.5, 1.0], ml_dtypes.bfloat16), [0.5, 1.0]),
        (np.array(["größe".encode(), b"\xff\0"], object), ["größe", "\ufffd\0"]),
        (np.array(["half \ud800", "whole"], object), ["half ?", "whole"]),
        (np.array([b"x" * 1000], object), "x" * MAX_CHARACTERS),
        (np.zeros(MAX_VALUES + 1), {"datatype": "FP64", "shape": [MAX_VALUES + 1], "first": [0.0] * MAX_VALUES}),
        (np.array(1.5), 1.5),
        (np.zeros((1, 0)), []),
    ],
)
def test_values_are_told_as_json_has_them(array, value):
    (row,) = told({"control": {"y": array}})["rows"]
    assert row["control"]["y"] == value


def test_what_is_redacted_is_told_by_shape_and_datatype_alone():
    sides = {"inputs": {"secret": np.array([[b"me"]], object)}, "control": {"y": np.array([1.0])}}
    text = describe(sides, [0], ("secret",))
    assert "me" not in text
    assert json.loads(text)["rows"][0]["inputs"] == {"secret": {"datatype": "BYTES", "shape": [1, 1]}}


def test_it_is_of_bounded_size_however_much_there_is():
    side = {f"output-{n}": np.full((10, MAX_VALUES), b"x" * 1000, object) for n in range(20)}
    text = describe({"inputs": side, "control": side, "variant": side}, list(range(10)), ())
    assert len(text) <= MAX_BYTES
    assert json.loads(text)["rows_that_differ"] == 10
