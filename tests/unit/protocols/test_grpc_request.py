"""Taking a ``ModelInferRequest`` apart: what is remembered of the last message changes nothing in the next."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.core.errors import MalformedRequest
from inferd.protocols.grpc.wire import length_field
from inferd.protocols.oip.grpc import request as module
from inferd.protocols.oip.grpc.request import split, target_in

FIELDS = st.lists(
    st.tuples(st.sampled_from([1, 2, 3, 3, 5, 7, 7, 9]), st.binary(max_size=6)).map(lambda pair: length_field(*pair)),
    max_size=6,
)


def read(function, body):
    try:
        parts = function(body)
    except MalformedRequest as error:
        return error.message
    return parts.name, parts.version, parts.request_id, parts.head, parts.raw


@settings(max_examples=1000, deadline=None)
@given(FIELDS, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=2))
def test_a_message_like_the_last_is_read_as_if_it_were_the_first(fields, changes):
    body = b"".join(fields)
    read(split, body)
    changed = bytearray(body)
    for at, value in changes:
        if at < len(changed):
            changed[at] = value
    assert read(split, bytes(changed)) == read(module._walk, bytes(changed))


def test_ids_and_tensors_are_holes_and_the_target_is_kept():
    def body(request_id, raw):
        return length_field(1, b"m") + length_field(3, request_id) + length_field(7, raw)

    first = split(body(b"a1", b"abcd"))
    assert target_in(body(b"a2", b"efgh")).name == "m"
    second = split(body(b"a3", b"ijkl"))
    assert (first.request_id, second.request_id) == (b"a1", b"a3")
    assert second.raw is first.raw


def test_no_more_is_kept_than_a_few_short_frames():
    for size in range(200):
        split(length_field(1, b"m") + length_field(7, bytes(size)))
    assert len(module._frames) <= 64
    large = length_field(1, b"m") + length_field(9, bytes(5000)) + length_field(7, b"abcd")
    split(large)
    assert len(large) not in module._frames


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05ab", b"\x3a\x05ab"])
def test_what_is_no_message_is_not_kept(body):
    with pytest.raises(MalformedRequest):
        split(body)
    assert len(body) not in module._frames or module._frames[len(body)].parts.head != body
