import numpy as np

from inferd.testing import Client


class Same:
    inputs = {"x": "FP32[-1, 2]"}
    outputs = {"y": "FP32[-1, 2]"}
    batchable = True

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x


def test_while_the_server_drains_it_is_not_ready_and_still_answers():
    with Client(Same()) as client:
        client.assembly.state.draining = True
        ready = client.get("/ready")
        assert (ready.status, ready.json["ready"]) == (503, False)
        assert ready.json["blockers"] == [{"state": "DRAINING", "reason": "the server is stopping"}]
        assert client.get("/health").status == 200
        assert client.predict([[1, 2]]).status == 200
