"""The native protocol byte for byte, over both fronts: JSON in row and column form, NPY and NPZ."""

import io

import numpy as np
import pytest
from fronts_support import Double, Served, request

JSON, NPY = "application/json", "application/x-npy"


def npy(rows):
    stream = io.BytesIO()
    np.save(stream, np.array(rows, np.float32))
    return stream.getvalue()


# A file of format 1.0: 128 bytes of head, then the values, little-endian.
ASKED = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }" + b" " * 58 + b"\n"
ASKED += np.array([1, 2, 3, 4], "<f4").tobytes()
ANSWERED = ASKED[:128] + np.array([2, 4, 6, 8], "<f4").tobytes()
GOLDEN = {
    "rows": (b'{"instances": [[1, 2], [3, 4]]}', JSON, JSON, b'{"predictions":[[2.0,4.0],[6.0,8.0]]}'),
    "rows by name": (b'{"instances":[{"x":[1,2]}]}', JSON, JSON, b'{"predictions":[[2.0,4.0]]}'),
    "columns": (b'{"inputs":{"x":[[1,2],[3,4]]}}', JSON, JSON, b'{"outputs":[[2.0,4.0],[6.0,8.0]]}'),
    "no rows": (b'{"instances":[]}', JSON, JSON, b'{"predictions":[]}'),
    "NPY": (ASKED, NPY, NPY, ANSWERED),
    "NPY to JSON": (ASKED, NPY, JSON, b'{"predictions":[[2.0,4.0],[6.0,8.0]]}'),
    "JSON to NPY": (b'{"instances":[[1,2],[3,4]]}', JSON, NPY, ANSWERED),
}


@pytest.fixture(scope="module", params=["hot", "asgi"])
def served(request):
    served = Served(Double(), front=request.param)
    yield served
    served.stop()


@pytest.mark.parametrize("name", GOLDEN)
def test_the_bytes_are_golden(served, name):
    body, content_type, accept, answer = GOLDEN[name]
    reply = served.ask(request("/predict", body, headers=[f"Content-Type: {content_type}", f"Accept: {accept}"]))
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, accept, answer)


def test_the_golden_file_is_numpys_own():
    assert npy([[1, 2], [3, 4]]) == ASKED
