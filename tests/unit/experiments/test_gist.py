import numpy as np
import pytest

from inferd.experiments.gist import gist


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([b"cat", b"dog"], object), ("cat", None)),
        (np.array(["größe"], object), ("größe", None)),
        (np.array([3, 4]), ("3", None)),
        (np.array([[7], [8]], np.int8), ("7", None)),
        (np.array([True]), ("True", None)),
        (np.array([[0.2, 0.7, 0.1]], np.float32), ("1", None)),
        (np.array([2.5, 3.5]), (None, 2.5)),
        (np.array([[2.5]]), (None, 2.5)),
        (np.array(1.5), (None, 1.5)),
        (np.array(4), ("4", None)),
        (np.array([np.nan]), (None, None)),
        (np.empty((0, 3)), (None, None)),
        (np.array([b"\xff\0" + b"x" * 100], object), ("\ufffd" + "x" * 63, None)),
        (np.array(["half \ud800"], object), ("half ?", None)),
    ],
)
def test_an_answer_becomes_one_label_or_one_score(array, expected):
    assert gist({"y": array, "other": np.array([9])}) == expected


def test_no_outputs_say_nothing():
    assert gist({}) == (None, None)
