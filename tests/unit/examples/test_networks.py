import importlib.util
from pathlib import Path

import numpy as np
import pytest

from inferd.core.config import ModelConfig
from inferd.runtimes.onnx import RUNTIME

FOLDER = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def networks():
    import sys

    spec = importlib.util.spec_from_file_location("example_networks", FOLDER / "networks.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_dense_network_runs_any_number_of_rows(networks, tmp_path):
    (tmp_path / "m.onnx").write_bytes(networks.dense_network((6, 8, 3)).SerializeToString())
    model = RUNTIME.load(ModelConfig("m"), tmp_path / "m.onnx", "cpu")
    assert model.batchable
    logits = model.execute({"x": np.ones((5, 6), np.float32)}, (), {}, "")["logits"]
    assert logits.shape == (5, 3)
    assert np.isfinite(logits).all()


def test_the_served_text_model_is_the_one_in_the_repository():
    served = FOLDER / "models" / "topic" / "1" / "model.py"
    assert served.read_text() == (FOLDER / "topic_model.py").read_text()


@pytest.mark.parametrize(
    "path", sorted((FOLDER / "models").glob("*/1/*")), ids=lambda path: f"{path.parts[-3]}-{path.name}"
)
def test_committed_models_are_small(path):
    assert path.is_dir() or path.stat().st_size < 1_000_000 or path.parts[-3] == "image"
