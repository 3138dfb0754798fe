"""A trained classifier in two formats and a function, made once for the command tests."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from inferd.cli.main import main

TWO_INPUTS = """\
import numpy as np

import inferd


class Repeat:
    inputs = {"text": "BYTES[-1]", "times": "INT64[-1]"}
    outputs = {"length": "INT64[-1]", "shout": "BYTES[-1]"}
    batchable = True

    def predict(self, text, times):
        if (times == 13).any():
            raise inferd.InvalidInput("13 is bad luck")
        if (times == 99).any():
            raise RuntimeError("boom")
        length = np.array([len(t) * int(n) for t, n in zip(text, times)], dtype=np.int64)
        return {"length": length, "shout": np.array([t.upper() for t in text], dtype=object)}
"""


@pytest.fixture
def repeat(tmp_path) -> str:
    """``file.py:Class`` of a model with two inputs and two outputs, one of them text."""
    (tmp_path / "repeat.py").write_text(TWO_INPUTS)
    return f"{tmp_path}/repeat.py:Repeat"


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A repository: ``iris`` (ONNX), and its 150 rows and labels as ``x.npy`` and ``y.npy`` beside."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    root = tmp_path_factory.mktemp("models")
    x, y = load_iris(return_X_y=True)
    classifier = LogisticRegression(max_iter=500).fit(x, y)
    (root / "iris" / "1").mkdir(parents=True)
    onnx = to_onnx(classifier, x[:1].astype(np.float32))
    (root / "iris" / "1" / "model.onnx").write_bytes(onnx.SerializeToString())
    np.save(root / "x.npy", x)
    np.save(root / "y.npy", classifier.predict(x))
    return root


@pytest.fixture
def inferd(monkeypatch, capsys):
    """Run the command line in this process; returns exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["inferd", *map(str, arguments)])
        code = main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
