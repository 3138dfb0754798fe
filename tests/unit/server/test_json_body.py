"""Bodies of cold routes that are not what they should be."""

from typing import Annotated

import numpy as np
import pytest

from inferd.testing import Client


def same(x: Annotated[np.ndarray, "FP32[-1, 4]"]) -> Annotated[np.ndarray, "FP32[-1, 4]"]:
    return x


@pytest.fixture(scope="module")
def client():
    with Client(same) as client:
        yield client


@pytest.mark.parametrize("path", ["/admin/models/same/labels/stable", "/admin/models/same/policy"])
def test_a_body_that_is_not_declared_as_json_is_the_callers_mistake(client, path):
    reply = client.request("PUT", path, b'{"version": 1}')
    assert (reply.status, reply.json["detail"]) == (415, "the body needs the content type application/json")
    assert "-H 'Content-Type: application/json'" in reply.json["hint"]
