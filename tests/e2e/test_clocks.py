"""A real server whose wall clock jumps: nothing is unloaded, forgotten, waited for or loaded too early for it."""

import json
import os

import pytest
from serve_support import Process

CLOCK = """
import os, time

wall_s, wall_ns = time.time, time.time_ns

def ahead_s():
    return float(os.environ["AHEAD_S"]) if os.path.exists("jumped") else 0.0

time.time = lambda: wall_s() + ahead_s()
time.time_ns = lambda: wall_ns() + int(ahead_s() * 1e9)
"""
CODE = """
import os
import numpy as np

class Model:
    inputs = {"x": "FP32[-1, 1]"}
    outputs = {"version": "INT64[-1]"}
    batchable = True

    def __init__(self):
        open("loads.txt", "a").write("VERSION\\n")
        if "VERSION" == "2" and not os.path.exists("repaired"):
            raise RuntimeError("not yet")

    def predict(self, x: np.ndarray) -> np.ndarray:
        if len(x) == 3:
            open("executed.txt", "a").write("VERSION\\n")
        return np.full(len(x), VERSION)
"""
JSON = {"Content-Type": "application/json"}
DAYS_11_S = 1e6


def put(folder, version):
    partial = folder / f".{version}"
    partial.mkdir(parents=True)
    (partial / "model.py").write_text(CODE.replace("VERSION", str(version)))
    partial.rename(folder / str(version))


@pytest.mark.parametrize("ahead_s", [DAYS_11_S, -DAYS_11_S])
def test_a_clock_that_jumps_changes_nothing(tmp_path, ahead_s):
    model = tmp_path / "models" / "m"
    put(model, 1)
    (model / "model.toml").write_text("[cache]\nmax_mb = 1\nttl_s = 600\n")
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(CLOCK)
    path = os.pathsep.join(filter(None, (str(tmp_path / "clock"), os.environ.get("PYTHONPATH"))))
    env = {"PYTHONPATH": path, "AHEAD_S": str(ahead_s)}
    flags = ("--lazy", "--idle-unload-s", "600", "--watch", "--watch-settle-s", "0.3", "--watch-interval-s", "1")

    def answer():
        status, _, body = process.predict([[1], [2], [3]])
        return status, json.loads(body).get("predictions", [0])[0]

    def lines(name):
        return (tmp_path / name).read_text().split() if (tmp_path / name).exists() else []

    with Process(tmp_path, "serve", "models", *flags, env=env) as process:
        process.wait_ready()
        assert answer() == (200, 1)
        before_ms = process.json("/admin/models/m/history")["history"][0]["at_ms"]
        (tmp_path / "jumped").touch()
        assert answer() == (200, 1)
        assert lines("executed.txt") == ["1"]  # the second answer came from the cache
        # A new version comes, fails, is tried again as if nothing had happened, and takes over.
        put(model, 2)
        process.wait_for(lambda: "2" in lines("loads.txt"))
        (tmp_path / "repaired").touch()
        process.wait_for(lambda: answer() == (200, 2))
        assert lines("loads.txt") == ["1", "2", "2"]
        history = process.json("/admin/models/m/history")["history"]
        assert [each["event"] for each in history if each["version"] == 2] == ["ready", "failed"]
        assert abs(history[0]["at_ms"] - before_ms - ahead_s * 1000) < DAYS_11_S * 100
        statistics = process.json("/v2/models/m/versions/2/stats")["model_stats"][0]
        assert abs(statistics["last_inference"] - history[0]["at_ms"]) < DAYS_11_S * 100
        assert process.signal().exit_code() == 0
