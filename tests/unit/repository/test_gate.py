"""The gate, with real ONNX models: what a version must prove before it is served."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inferd.core.config import GateConfig, ModelConfig
from inferd.core.errors import ConfigError, GateFailed
from inferd.core.tensors import Signature, TensorSpec
from inferd.repository.gate import _check_signature
from inferd.repository.loader import load_version

IRIS = Path(__file__).parents[3] / "examples" / "models" / "iris-onnx" / "1"


@pytest.fixture
def version(tmp_path):
    shutil.copytree(IRIS, tmp_path / "1")
    return tmp_path / "1"


def load(version, *, before=None, **gate):
    config = replace(ModelConfig("iris"), gate=GateConfig(**gate))
    loaded = load_version(config, 1, next(version.glob("*.onnx")), before=before)
    loaded.close()
    return loaded


def golden(version):
    with np.load(version / "golden.npz") as archive:
        return dict(archive)


def test_a_version_that_gives_its_golden_answers_is_loaded(version):
    load(version)


def test_another_answer_is_shown_with_its_place(version):
    arrays = golden(version)
    arrays["output.probabilities"][1, 2] += 0.25
    np.savez(version / "golden.npz", **arrays)
    with pytest.raises(GateFailed) as failed:
        load(version)
    assert "golden.npz: output 'probabilities' differs in 1 of" in failed.value.message
    assert "the worst at [1, 2]: expected" in failed.value.message
    load(version, atol=0.3)
    load(version, golden=False)


def test_text_must_be_equal(version):
    arrays = golden(version)
    arrays["output.label"][0] = b"tulip"
    np.savez(version / "golden.npz", **arrays)
    with pytest.raises(GateFailed, match=r"'label' differs in 1 of .* at \[0\]: expected 'tulip', got '"):
        load(version, rtol=10, atol=10)


def test_golden_json_may_have_tolerances_of_its_own(version):
    (version / "golden.npz").unlink()
    body = {
        "inputs": {"x": [[5.1, 3.5, 1.4, 0.2]]},
        "outputs": {"label": ["setosa"], "probabilities": [[0.9, 0.1, 0.0]]},
        "tolerances": {"probabilities": {"atol": 0.2}},
    }
    (version / "golden.json").write_text(json.dumps(body))
    load(version)
    body["tolerances"] = {}
    (version / "golden.json").write_text(json.dumps(body))
    with pytest.raises(GateFailed, match=r"golden\.json"):
        load(version)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("no JSON", "must be"),
        ("[]", "must be"),
        ('{"inputs": {}}', "must be"),
        ('{"inputs": {"x": [[1, 2]]}, "outputs": {"label": ["a"]}}', "the model takes FP32"),
        ('{"inputs": {"z": [1]}, "outputs": {"label": ["a"]}}', "unknown input 'z'"),
        ('{"inputs": {"x": [[1, 2, 3, 4]]}, "outputs": {"colour": ["a"]}}', "no output 'colour'"),
        ('{"inputs": {"x": [[1, 2, 3, 4]]}, "outputs": {}}', "no output to compare"),
    ],
)
def test_examples_that_cannot_be_used_are_the_configurations_fault(version, body, reason):
    (version / "golden.npz").unlink()
    (version / "golden.json").write_text(body)
    with pytest.raises(ConfigError, match=reason):
        load(version)


def test_a_broken_npz_is_named(version):
    (version / "golden.npz").write_bytes(b"PK nonsense")
    with pytest.raises(ConfigError, match=r"golden\.npz is not a readable NPZ file"):
        load(version)


def test_a_slow_version_stays_out(version):
    with pytest.raises(GateFailed, match=r"a call of 64 rows takes .* ms .*more than max_latency_ms = 1e-06"):
        load(version, max_latency_ms=1e-6, latency_rows=64)
    load(version, max_latency_ms=60_000)


def test_answers_that_depend_on_the_batch_stay_out(version):
    load(version, max_batch_difference=1e-3)
    (version / "iris.onnx").unlink()
    (version / "golden.npz").unlink()
    (version / "model.py").write_text(
        "import numpy as np\n"
        "class Model:\n"
        "    inputs = {'x': 'FP32[-1, 1]'}\n"
        "    outputs = {'y': 'FP32[-1, 1]'}\n"
        "    batchable = True\n"
        "    def predict(self, x):\n"
        "        return x + len(x)\n"
    )
    config = replace(ModelConfig("m"), gate=GateConfig(max_batch_difference=0.5))
    with pytest.raises(GateFailed, match="rows alone and in a batch differ by 7"):
        load_version(config, 1, version / "model.py")


def signature(inputs, outputs):
    return Signature(tuple(TensorSpec(*each) for each in inputs), tuple(TensorSpec(*each) for each in outputs))


X, Y = ("x", "FP32", (-1, 4)), ("y", "FP32", (-1, 3))
BEFORE = signature([X], [Y])


@pytest.mark.parametrize(
    ("inputs", "outputs", "problem"),
    [
        ([X], [Y], ""),
        ([X], [Y, ("z", "INT64", (-1,))], ""),
        ([("x", "FP32", (-1, -1))], [Y], ""),
        ([X, ("more", "FP32", (-1,), True)], [Y], ""),
        ([], [Y], "input 'x' is gone"),
        ([X], [], "output 'y' is gone"),
        ([X, ("more", "FP32", (-1,))], [Y], "input 'more' is new and not optional"),
        ([("x", "FP64", (-1, 4))], [Y], "input 'x' was FP32[-1, 4] and is FP64[-1, 4]"),
        ([("x", "FP32", (-1, 5))], [Y], "and is FP32[-1, 5]"),
        ([("x", "FP32", (-1, 4, 1))], [Y], "and is FP32[-1, 4, 1]"),
        ([X], [("y", "FP32", (-1, -1))], "output 'y' was FP32[-1, 3] and is FP32[-1, -1]"),
    ],
)
def test_callers_of_the_version_before_must_be_able_to_go_on(inputs, outputs, problem):
    if not problem:
        _check_signature(BEFORE, signature(inputs, outputs))
        return
    with pytest.raises(GateFailed) as failed:
        _check_signature(BEFORE, signature(inputs, outputs))
    assert problem in failed.value.message


def test_the_signature_is_compared_only_where_that_is_asked_for(version):
    topic = version.parents[0] / "topic"
    shutil.copytree(IRIS.parents[1] / "iris" / "1", topic)
    before = load_version(ModelConfig("iris"), 1, next(topic.glob("*.skops")))
    before.close()
    load(version, before=before)
    with pytest.raises(GateFailed, match=r"input 'x' was FP64\[-1, 4\] and is FP32\[-1, 4\]"):
        load(version, before=before, signature="compatible")
