"""The published check passes the runtime of the documentation, and names each promise that a changed one breaks."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from inferd.testing.check_runtime import check_runtime

PAGE = Path(__file__).parents[2] / "docs" / "runtimes.md"
X = np.random.default_rng(0).random((5, 4), dtype=np.float32)


@pytest.fixture
def page():
    """What the page's code defines, after it was run from top to bottom."""
    namespace: dict = {"__name__": "page"}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, namespace)  # the page's own code is what is tested
    return SimpleNamespace(**namespace)


def check(page, folder, model=None, runtime=None):
    """Check the page's runtime with some methods of it or of its model replaced."""
    altered_model = type("Altered", (page.LinearModel,), model or {})

    def load(self, config, artefact, device):
        loaded = page.LinearRuntime.load(self, config, artefact, device)
        return altered_model(loaded.weights, loaded.bias)

    altered = type("AlteredRuntime", (page.LinearRuntime,), {"load": load, **(runtime or {})})()
    np.savez(folder / "model.npz", weights=page.weights, bias=page.bias)
    scores = X @ page.weights + page.bias
    check_runtime(altered, folder / "model.npz", {"x": X}, {"scores": scores, "best": scores.argmax(axis=1)})


def test_the_documented_runtime_keeps_the_contract(page, tmp_path):
    check(page, tmp_path)


def writes_to_its_input(self, inputs, outputs, parameters, signature):
    inputs["x"][:] = 0
    return {}


def answers_everything(self, inputs, outputs, parameters, signature):
    scores = inputs["x"] @ self.weights + self.bias
    return {"scores": scores, "best": scores.argmax(axis=1)}


def mixes_rows(self, inputs, outputs, parameters, signature):
    scores = inputs["x"] @ self.weights + self.bias
    scores = scores if len(scores) == len(X) else scores - scores.mean()
    results = {"scores": scores, "best": scores.argmax(axis=1)}
    return {name: results[name] for name in outputs or results}


def answers_other_datatypes(self, inputs, outputs, parameters, signature):
    scores = inputs["x"] @ self.weights + self.bias
    results = {"scores": scores.astype(np.float64), "best": scores.argmax(axis=1)}
    return {name: results[name] for name in outputs or results}


@pytest.mark.parametrize(
    ("execute", "sentence"),
    [
        (answers_everything, "when only 'scores' is asked"),
        (mixes_rows, "not what the framework computes for row 0 alone"),
        (answers_other_datatypes, "'scores' is float64, declared FP32"),
    ],
)
def test_a_broken_model_is_named(page, tmp_path, execute, sentence):
    with pytest.raises(AssertionError, match=re.escape(sentence)):
        check(page, tmp_path, model={"execute": execute})


def test_a_model_that_writes_to_its_inputs_fails(page, tmp_path):
    with pytest.raises(ValueError, match="read-only"):
        check(page, tmp_path, model={"execute": writes_to_its_input})


def loads_anything(self, config, artefact, device):
    return SimpleNamespace(close=lambda: None)


def raises_its_own_error(self, config, artefact, device):
    raise KeyError("weights")


def test_a_runtime_that_loads_anything_is_named(page, tmp_path):
    with pytest.raises(AssertionError, match="loaded as if it were a model"):
        check(page, tmp_path, runtime={"load": loads_anything})


def test_a_runtime_that_raises_its_own_errors_is_named(page, tmp_path):
    with pytest.raises(AssertionError, match="raises KeyError, not LoadFailed"):
        check(page, tmp_path, runtime={"load": raises_its_own_error})


def test_a_runtime_that_claims_everything_is_named(page, tmp_path):
    with pytest.raises(AssertionError, match="a file of an unknown kind is claimed"):
        check(page, tmp_path, runtime={"claims": lambda self, artefact: True})


def test_a_runtime_that_changes_the_process_is_named(page, tmp_path, monkeypatch):
    monkeypatch.setenv("LINEAR_LOADS", "0")

    def load(self, config, artefact, device):
        model = page.LinearRuntime.load(self, config, artefact, device)
        os.environ["LINEAR_LOADS"] += "1"
        return model

    with pytest.raises(AssertionError, match="changed the environment"):
        check(page, tmp_path, runtime={"load": load})


def test_a_framework_imported_too_early_is_named(tmp_path):
    from inferd.runtimes.onnx import RUNTIME
    from inferd.testing.check_runtime import _imports

    assert not _imports(RUNTIME, tmp_path / "m.onnx", "onnxruntime")
    assert _imports(RUNTIME, tmp_path / "m.onnx", "numpy")
