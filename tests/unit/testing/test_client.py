import sys

import numpy as np
import pytest

from inferd.core.errors import LoadFailed
from inferd.testing import Client


class Double:
    inputs = {"x": "FP32[-1, 2]"}
    outputs = {"y": "FP32[-1, 2]"}
    batchable = True

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * 2


class Broken(Double):
    def load(self):
        raise RuntimeError("no weights")


def test_a_live_object_is_served_as_on_a_real_server():
    with Client(Double()) as client:
        reply = client.predict([[1, 2]], headers={"X-Request-Id": "mine"})
        assert (reply.status, reply.json) == (200, {"predictions": [[2, 4]]})
        assert reply.headers["x-request-id"] == "mine"
        assert client.get("/ready?model=Double").json == {"ready": True, "blockers": []}
        assert client.predict([[1]]).status == 422


def test_numpy_arrays_are_instances_too():
    with Client(Double()) as client:
        assert client.predict(np.float32([[1, 2]])).json == {"predictions": [[2, 4]]}


def test_a_path_is_served(iris_onnx):
    with Client(iris_onnx.artefact) as client:
        assert client.predict([[5.1, 3.5, 1.4, 0.2]]).json["predictions"][0]["label"] == "setosa"


def test_what_cannot_be_loaded_says_why():
    with pytest.raises(LoadFailed, match="no weights"):
        Client(Broken())


def test_importing_the_kit_imports_no_server():
    import subprocess

    code = "import inferd.testing, sys; print([m for m in ('fastapi', 'uvicorn', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
