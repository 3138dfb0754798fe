"""Two versions of one model that say which they are, and an experiment that splits callers between them."""

from pathlib import Path

MODEL = """
import numpy as np

class Model:
    inputs = {"x": "FP32[-1, 1]"}
    outputs = {"version": "INT64[-1]"}
    batchable = True

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.full(len(x), VERSION)
"""
EXPERIMENT = """
id = "ranker-2"
model = "ranker"
unit = "header:x-user"
[[variant]]
name = "control"
target = "ranker@1"
[[variant]]
name = "candidate"
target = "ranker@2"
[[metric]]
name = "click"
kind = "mean"
"""


def lay_ranker(folder: Path) -> None:
    """Write ``models`` and ``experiments`` into ``folder``."""
    for version in (1, 2):
        home = folder / "models" / "ranker" / str(version)
        home.mkdir(parents=True)
        (home / "model.py").write_text(MODEL.replace("VERSION", str(version)))
    (folder / "experiments").mkdir()
    (folder / "experiments" / "ranker.toml").write_text(EXPERIMENT)
