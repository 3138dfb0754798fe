"""A capture as a file: what goes in comes out, numpy alone can read it, and nothing else is taken for one."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from inferd.core.errors import MalformedRequest
from inferd.server import capture_file
from inferd.server.capture_file import MANIFEST, read_capture, write_capture
from inferd.serving.capture import CapturedRequest

SETTINGS = {"model": "m", "sample": 0.5}
NUMBERS = st_numpy.arrays(
    st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.uint8, np.bool_]),
    st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
TEXTS = st.lists(st.one_of(st.binary(max_size=5), st.text(max_size=5)), max_size=4).map(
    lambda items: np.array([*items, None], object)[:-1]
)
TENSORS = st.dictionaries(st.sampled_from(["x", "y/z:0", "ä.b", "x_lengths"]), st.one_of(NUMBERS, TEXTS), max_size=3)
REQUESTS = st.lists(
    st.builds(
        CapturedRequest,
        st.text("abc-", max_size=9),
        st.integers(0, 2**50),
        st.integers(1, 99),
        st.sampled_from(["ok", "internal"]),
        TENSORS,
        TENSORS,
        reason=st.text(max_size=9),
        wanted=st.lists(st.text("xy", max_size=3), max_size=2).map(tuple),
        parameters=st.dictionaries(st.text(max_size=3), st.one_of(st.integers(-9, 9), st.text(max_size=3)), max_size=2),
        unit=st.text(max_size=5),
        compute_ns=st.integers(0, 2**60),
    ),
    max_size=8,
)


def written(requests):
    return b"".join(write_capture(SETTINGS, requests))


def as_bytes(array):
    items = [
        item if isinstance(item, bytes) else str(item).encode("utf-8", "replace") for item in array.ravel().tolist()
    ]
    return items, array.shape


@given(requests=REQUESTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_is_read(tmp_path, requests):
    file = tmp_path / "capture.npz"
    file.write_bytes(written(requests))
    capture = read_capture(file)
    assert capture.model == "m"
    assert capture.settings == SETTINGS
    assert len(capture.requests) == len(requests)
    for before, after in zip(requests, capture.requests, strict=True):
        for name in capture_file._DETAILS:
            expected = getattr(before, name)
            got = getattr(after, name)
            assert got == (expected.encode("utf-8", "replace").decode() if isinstance(expected, str) else expected)
        for kind in ("inputs", "outputs"):
            old, new = getattr(before, kind), getattr(after, kind)
            assert set(old) == set(new)
            for name, array in old.items():
                if array.dtype == object:
                    assert as_bytes(array) == as_bytes(new[name])
                else:
                    assert array.dtype == new[name].dtype
                    np.testing.assert_array_equal(array, new[name])


def example():
    """Three requests of two forms."""
    x = np.arange(4, dtype=np.float32).reshape(1, 4)
    return [
        CapturedRequest("a", 1, 1, "ok", {"x": x}, {"label": np.array([b"one\0"], object)}),
        CapturedRequest("b", 2, 1, "ok", {"x": np.vstack([x, x])}, {"label": np.array([b"", "zwölf"], object)}),
        CapturedRequest("c", 3, 2, "ok", {"x": x + 1}, {"label": np.array([b"two"], object)}),
    ]


def test_numpy_alone_reads_it():
    with np.load(io.BytesIO(written(example())), allow_pickle=False) as archive:
        manifest = json.loads(archive[MANIFEST])
        assert [each["requests"] for each in manifest["groups"]] == [[0, 2], [1]]
        assert manifest["groups"][0]["inputs"] == {"x": {"datatype": "FP32", "shape": [1, 4]}}
        assert archive["0.input.x"].tolist() == [[[0, 1, 2, 3]], [[1, 2, 3, 4]]]
        assert archive["0.output_lengths.label"].tolist() == [[4], [3]]
        assert archive["0.output.label"].tobytes() == b"one\0two"


def test_brain_floats_are_kept_by_their_bits(tmp_path):
    import ml_dtypes

    x = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    file = tmp_path / "capture.npz"
    file.write_bytes(written([CapturedRequest("a", 1, 1, "ok", {"x": x})]))
    (request,) = read_capture(file).requests
    assert request.inputs["x"].dtype == x.dtype
    np.testing.assert_array_equal(request.inputs["x"], x)


def test_it_is_written_in_pieces_and_nothing_is_held_twice():
    big = [CapturedRequest(str(i), 1, 1, "ok", {"x": np.zeros(100_000, np.uint8)}) for i in range(20)]
    pieces = list(write_capture(SETTINGS, big))
    assert len(pieces) > 4
    assert max(map(len, pieces)) < 2 * capture_file.PIECE_BYTES
    assert sum(map(len, pieces)) > 2_000_000


def test_a_file_that_breaks_off_anywhere_is_refused(tmp_path):
    whole, file = written(example()), tmp_path / "capture.npz"
    for end in range(0, len(whole), 7):
        file.write_bytes(whole[:end])
        with pytest.raises(MalformedRequest, match=r"capture\.npz"):
            read_capture(file)


def repacked(change):
    """The example's archive, its members changed by ``change(manifest, members)``."""
    with zipfile.ZipFile(io.BytesIO(written(example()))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members.pop(MANIFEST))
    change(manifest, members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, json.dumps(manifest))
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def npy(array):
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


HUGE = (
    b"\x93NUMPY\x01\x00\x76\x00"
    + b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999,), }".ljust(117)
    + b"\n"
)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda manifest, members: manifest.update(format="other"), "does not say inferd-capture"),
        (lambda manifest, members: manifest.update(format_version=2), "of format 2, and this inferd reads 1"),
        (lambda manifest, members: manifest["requests"].pop(), "IndexError"),
        (lambda manifest, members: manifest["groups"].pop(), "missing"),
        (lambda manifest, members: manifest["groups"][0].update(requests=[0, 0]), "which it cannot hold"),
        (lambda manifest, members: manifest["groups"][0].update(requests=[0, -1]), "which it cannot hold"),
        (lambda manifest, members: manifest["groups"][0].update(requests=[0]), "shape"),
        (lambda manifest, members: manifest["requests"][0].update(version="1"), "where a int belongs"),
        (lambda manifest, members: manifest["requests"][0].update(more=1), "unexpected keyword"),
        (lambda manifest, members: manifest["groups"][0]["inputs"]["x"].update(datatype="FP65"), "which is none"),
        (lambda manifest, members: manifest["groups"][0]["inputs"]["x"].update(datatype="FP64"), "not as FP64"),
        (lambda manifest, members: manifest["groups"][0]["inputs"]["x"].update(shape=[1, 5]), "shape"),
        (lambda manifest, members: members.pop("0.input.x.npy"), "KeyError"),
        (lambda manifest, members: members.update({"0.input.x.npy": HUGE}), "promises"),
        (lambda manifest, members: members.update({"0.input.x.npy": b"no array"}), "not an NPY file"),
        (lambda manifest, members: members.update({"0.input.x.npy": npy(np.array([{}], object))}), "not accepted"),
        (
            lambda manifest, members: members.update({"0.output_lengths.label.npy": npy(np.array([[9], [9]]))}),
            "lengths",
        ),
        (
            lambda manifest, members: members.update({"0.output_lengths.label.npy": npy(np.array([[-1], [8]]))}),
            "lengths",
        ),
        (lambda manifest, members: members.update(zeros=bytes(10_000_000)), "expands to more than"),
    ],
)
def test_a_hostile_or_damaged_file_is_refused_with_its_reason(tmp_path, change, reason):
    file = tmp_path / "capture.npz"
    file.write_bytes(repacked(change))
    with pytest.raises(MalformedRequest, match=reason):
        read_capture(file)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x" * 1000, pickle.dumps([1])])
def test_what_is_no_archive_is_refused(tmp_path, content):
    file = tmp_path / "capture.npz"
    file.write_bytes(content)
    with pytest.raises(MalformedRequest, match="is not a whole capture"):
        read_capture(file)


def test_another_npz_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(MalformedRequest, match="it has no manifest"):
        read_capture(tmp_path / "other.npz")


def test_two_members_of_one_name_are_refused(tmp_path):
    file = tmp_path / "capture.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(MANIFEST, "{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(MANIFEST, "{}")
    with pytest.raises(MalformedRequest, match="two members of one name"):
        read_capture(file)
