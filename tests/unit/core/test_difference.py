"""Comparing two answers: what counts as different, and what of labels and ranked classes agrees."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from inferd.core.difference import Agreement, Differences, compare_answers, explain_difference, unequal_rows

ANY = st.one_of(
    st_numpy.arrays(st.sampled_from([np.float32, np.float64]), st_numpy.array_shapes(min_dims=0, min_side=0)),
    st_numpy.arrays(st.sampled_from([np.int64, np.uint8, np.bool_]), st_numpy.array_shapes(min_dims=0, min_side=0)),
    st.lists(st.binary(max_size=4), max_size=5).map(lambda texts: np.array([*texts, b""], dtype=object)[:-1]),
)
ANSWERS = st.dictionaries(st.sampled_from("abc"), ANY, max_size=3)
SCORES = st_numpy.arrays(np.float64, st_numpy.array_shapes(min_dims=2, max_dims=2), elements=st.floats(-1, 1, width=16))
RANKED = st_numpy.arrays(
    np.float32,
    st_numpy.array_shapes(min_dims=2, max_dims=2, max_side=7),
    elements=st.sampled_from([0.0, -0.0, 0.5, 1.0, np.inf, -np.inf, np.nan]),
)


def compare(expected, got, *, rtol=0.0, atol=0.0, top_k=1):
    return compare_answers(expected, got, rtol=rtol, atol=atol, top_k=top_k)


@pytest.mark.parametrize(
    ("expected", "got", "text"),
    [
        ([1.0, 2.0], [1.0, 2.001], ""),
        ([1.0, np.nan], [1.0, np.nan], ""),
        ([1.0, np.inf], [1.0, np.inf], ""),
        ([1.0, 2.0], [1.0, np.nan], "differs in 1 of 2 values beyond rtol 0.01 and atol 0; the worst at [1]"),
        ([1, 2], [1, 3], "differs in 1 of 2 values; the worst at [1]"),
        ([2**53], [2**53 + 1], "differs in 1 of 1 values; the worst at [0]"),
        ([1.0], [1.0, 2.0], "has shape [2] where [1] is expected"),
    ],
)
def test_differences_are_told_in_words(expected, got, text):
    found = explain_difference(np.array(expected), np.array(got), 0.01, 0.0)
    assert found.startswith(text)
    assert bool(found) == bool(text)


@given(ANSWERS)
def test_an_answer_is_equal_to_itself(answer):
    found = compare(answer, answer)
    assert found.equal
    assert found.largest in (None, 0.0)
    assert found.labels.agreeing == found.labels.rows
    assert found.top_k.agreeing == found.top_k.rows


@given(ANSWERS, ANSWERS)
def test_any_two_answers_can_be_compared(expected, got):
    found = compare(expected, got, top_k=2)
    assert 0 <= found.labels.agreeing <= found.labels.rows
    assert 0 <= found.top_k.agreeing <= found.top_k.rows
    assert found.largest is None or found.largest >= 0
    assert "\n" not in found.reason
    if found.equal:
        assert set(expected) <= set(got)
        assert found.labels.agreeing == found.labels.rows


@given(SCORES, st.floats(0, 1), st.floats(0, 1))
def test_equal_is_what_the_tolerances_say(scores, rtol, atol):
    got = scores + 0.25
    found = compare({"y": scores}, {"y": got}, rtol=rtol, atol=atol)
    assert found.equal == bool((np.abs(got - scores) <= atol + rtol * np.abs(scores)).all())
    assert found.largest == float(np.abs(got - scores).max())


@given(RANKED, st.integers(1, 3), st.randoms(use_true_random=False))
def test_the_top_classes_are_those_of_a_plain_sort(scores, k, shuffle):
    got = scores.copy()
    for row in got:
        row[:] = shuffle.sample(row.tolist(), len(row))
    found = compare({"y": scores}, {"y": got}, top_k=k)
    if scores.shape[1] <= k:
        assert found.top_k == Agreement()
        return

    def top(row, k):
        worth = [-math.inf if math.isnan(value) else value for value in row]
        return set(sorted(range(len(row)), key=lambda i: (-worth[i], i))[:k])

    rows = list(zip(scores.tolist(), got.tolist(), strict=True))
    assert found.top_k == Agreement(sum(top(a, k) == top(b, k) for a, b in rows), len(rows))
    assert found.labels == Agreement(sum(top(a, 1) == top(b, 1) for a, b in rows), len(rows))


@given(st.lists(st.tuples(ANSWERS, ANSWERS), max_size=4))
def test_many_differences_add_up(pairs):
    each = [compare(*pair) for pair in pairs]
    total = Differences(each)
    assert (total.compared, total.equal) == (len(each), sum(one.equal for one in each))
    assert total.labels.rows == sum(one.labels.rows for one in each)
    assert total.top_k.agreeing == sum(one.top_k.agreeing for one in each)
    assert total.largest == max((one.largest for one in each if one.largest is not None), default=None)


def test_what_is_missing_or_of_another_type_or_shape_differs():
    expected = {"y": np.zeros((2, 3), np.float32)}
    assert compare(expected, {}).reason == "output 'y' is missing"
    other = compare(expected, {"y": np.zeros((2, 3))})
    assert other.reason == "output 'y' is FP64 where FP32 is expected"
    assert other.largest == 0.0
    assert other.labels == Agreement(2, 2)
    shape = compare(expected, {"y": np.zeros((2, 4), np.float32)})
    assert shape.reason == "output 'y' has shape [2, 4] where [2, 3] is expected"
    assert shape.largest is None
    assert compare(expected, {**expected, "new": np.zeros(1)}).equal


def test_text_is_one_datatype_whatever_holds_it():
    held = [np.array(["a", "b"], kind) for kind in ("U1", "S1", "O")]
    assert all(compare({"y": one}, {"y": other}).equal for one in held for other in held)


def test_labels_come_from_the_output_that_has_them():
    expected = {"label": np.array([b"a", b"b"], object), "p": np.array([[0.9, 0.1], [0.4, 0.6]])}
    got = {"label": np.array([b"a", b"a"], object), "p": np.array([[0.9, 0.1], [0.4, 0.6]])}
    assert compare(expected, got).labels == Agreement(1, 2)
    assert compare({"p": expected["p"]}, {"p": got["p"][:, ::-1]}).labels == Agreement(0, 2)
    assert compare({"y": np.zeros(4)}, {"y": np.ones(4)}).labels.share is None


def test_a_number_and_no_number_are_infinitely_apart():
    found = compare({"y": np.array([1.0, np.nan])}, {"y": np.array([np.nan, np.nan])}, atol=1e9)
    assert found.largest == math.inf
    assert "expected 1, got nan" in found.reason


def test_the_reason_is_about_the_output_that_differs_most():
    expected = {"a": np.zeros(4), "b": np.zeros(4, np.int64), "c": np.zeros(4)}
    got = {"a": np.array([9.0, 0, 0, 0]), "b": np.array([1, 1, 0, 0]), "c": np.zeros(4)}
    assert compare(expected, got).reason == ("output 'b' differs in 2 of 4 values; the worst at [0]: expected 0, got 1")


def test_brain_floats_are_floats():
    import ml_dtypes

    expected = np.array([[1.0, 2.0]], ml_dtypes.bfloat16)
    found = compare({"y": expected}, {"y": np.array([[1.0, 2.015625]], ml_dtypes.bfloat16)}, atol=0.1)
    assert found.equal
    assert found.largest == 0.015625


@given(SCORES, st.data())
def test_the_rows_that_differ_are_those_that_differ_by_themselves(scores, data):
    other = data.draw(st_numpy.arrays(np.float64, scores.shape, elements=st.sampled_from([0.0, 0.25, np.nan])))
    other = np.where(data.draw(st_numpy.arrays(np.bool_, scores.shape)), other, scores)
    names = np.array([str(row[0]).encode() for row in scores], object)
    expected, got = {"score": scores, "name": names}, {"score": other, "name": names[::-1]}
    alone = [
        row
        for row in range(len(scores))
        if not compare(
            {name: array[row : row + 1] for name, array in expected.items()},
            {name: array[row : row + 1] for name, array in got.items()},
            atol=0.125,
        ).equal
    ]
    assert unequal_rows(expected, got, rtol=0.0, atol=0.125) == alone


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        ({"a": np.zeros(3)}, {"b": np.zeros(3)}),
        ({"a": np.zeros(3)}, {"a": np.zeros(2)}),
        ({"a": np.zeros(3)}, {"a": np.zeros(3, np.int64)}),
        ({"a": np.zeros(1), "b": np.zeros(3)}, {"a": np.zeros(1), "b": np.zeros(3)}),
        ({"a": np.zeros(3), "b": np.zeros(())}, {"a": np.zeros(3), "b": np.zeros(())}),
    ],
)
def test_answers_that_are_not_made_of_the_same_rows_have_none_in_common(expected, got):
    assert unequal_rows(expected, got, rtol=0, atol=0) is None


def test_an_answer_without_dimensions_is_one_row():
    one, other = {"a": np.array(1.0)}, {"a": np.array(2.0)}
    assert unequal_rows(one, other, rtol=0, atol=0) == [0]
    assert unequal_rows(one, one, rtol=0, atol=0) == []
    assert unequal_rows({}, {}, rtol=0, atol=0) == []


def test_values_that_look_alike_are_shown_with_all_their_digits():
    value = np.float32(8)
    reason = explain_difference(value, np.nextafter(value, np.float32(9)), 0.0, 0.0)
    assert reason.endswith("expected 8.0, got 8.000001")
