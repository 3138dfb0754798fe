"""Every error has a status, and the statuses agree with the neutral codes."""

import pytest

from inferd.core.errors import Code, InferdError, InvalidInput, InvalidRequest
from inferd.protocols.shared.status import HTTP_STATUS, http_status, http_status_plain

AGREED = {
    Code.INVALID_ARGUMENT: {400, 406, 415, 422},
    Code.NOT_FOUND: {404, 410},
    Code.ALREADY_EXISTS: {409},
    Code.FAILED_PRECONDITION: {400},
    Code.UNAUTHENTICATED: {401},
    Code.PERMISSION_DENIED: {403},
    Code.RESOURCE_EXHAUSTED: {413, 429, 431, 507},
    Code.UNAVAILABLE: {503},
    Code.DEADLINE_EXCEEDED: {408, 504},
    Code.CANCELLED: {499},
    Code.UNIMPLEMENTED: {405, 501},
    Code.INTERNAL: {500},
}


def subclasses(kind: type[InferdError]) -> list[type[InferdError]]:
    own = [child for child in kind.__subclasses__() if child.__module__ == InferdError.__module__]
    return [grandchild for child in own for grandchild in (child, *subclasses(child))]


@pytest.mark.parametrize("kind", subclasses(InferdError))
def test_each_error_has_a_row_that_agrees_with_its_code(kind: type[InferdError]) -> None:
    assert HTTP_STATUS[kind] in AGREED[kind.code]


def test_a_subclass_from_elsewhere_takes_its_parents_status() -> None:
    class TooBlurred(InvalidInput):
        pass

    assert http_status(TooBlurred("blurred")) == 422


def test_what_is_not_ours_is_500() -> None:
    assert http_status(ZeroDivisionError()) == 500


def test_plain_protocols_know_no_422() -> None:
    assert http_status_plain(InvalidRequest("no")) == 400
    assert http_status_plain(ValueError()) == 500
