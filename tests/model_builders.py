"""Small real models for tests, each with inputs and with the outputs its own framework computes for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from inferd.core.config import ModelConfig
from inferd.core.tensors import TensorSpec

EXAMPLES = Path(__file__).parent.parent / "examples" / "models"
CONFIG = ModelConfig("m")


@dataclass(frozen=True)
class Built:
    """An artefact on disk and what it must answer."""

    artefact: Path
    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    expected: Mapping[str, np.ndarray] = field(default_factory=dict)
    config: ModelConfig = CONFIG


def example(model: str, artefact: str) -> Built:
    """One of the committed examples, with its golden values; fixed-width text there is ``bytes`` objects here."""
    folder = EXAMPLES / model / "1"
    sides: dict[str, dict[str, np.ndarray]] = {"input": {}, "output": {}}
    with np.load(folder / "golden.npz") as archive:
        for key in archive.files:
            side, _, name = key.partition(".")
            array = archive[key]
            sides[side][name] = array.astype(object) if array.dtype.kind == "S" else array
    return Built(folder / artefact, sides["input"], sides["output"])


def objects(texts: Sequence[str]) -> np.ndarray:
    """A BYTES tensor."""
    return np.array([text.encode() for text in texts], dtype=object)


def iris_rows(rows: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Every flower's measurements and species; ``rows`` of them are enough where only shapes matter."""
    from sklearn.datasets import load_iris

    data = load_iris()
    chosen = np.linspace(0, len(data.data) - 1, rows).astype(int)
    return data.data[chosen], data.target[chosen]


# ONNX


def onnx_graph(
    path: Path, nodes: Sequence[Any], inputs: Mapping[str, tuple], outputs: Mapping[str, tuple], **metadata: str
) -> Path:
    """An ONNX file of these nodes; a tensor is (element type, shape)."""
    from onnx import helper

    def infos(tensors: Mapping[str, tuple]) -> list[Any]:
        return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in tensors.items()]

    model = helper.make_model(
        helper.make_graph(nodes, "test", infos(inputs), infos(outputs)),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())
    return path


def onnx_text(folder: Path) -> Built:
    """Text in, text out, unchanged."""
    from onnx import TensorProto, helper

    text = {"text": (TensorProto.STRING, ["n"])}
    artefact = onnx_graph(
        folder / "text.onnx", [helper.make_node("Identity", ["text"], ["same"])], text, {"same": text["text"]}
    )
    words = objects(["naïve", "", "日本"])
    return Built(artefact, {"text": words}, {"same": words})


def onnx_two_inputs(folder: Path) -> Built:
    """``a + b`` and ``a * 2`` of a fixed batch of one."""
    from onnx import TensorProto, helper

    one = (TensorProto.FLOAT, [1, 3])
    nodes = [helper.make_node("Add", ["a", "b"], ["total"]), helper.make_node("Add", ["a", "a"], ["twice"])]
    artefact = onnx_graph(folder / "sum.onnx", nodes, {"a": one, "b": one}, {"total": one, "twice": one})
    a, b = np.float32([[1, 2, 3]]), np.float32([[10, 20, 30]])
    return Built(artefact, {"a": a, "b": b}, {"total": a + b, "twice": a * 2})


def onnx_zipmap(folder: Path) -> Built:
    """A classifier as skl2onnx converts it unasked: probabilities as one dictionary a row."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    x, y = iris_rows(150)
    model = LogisticRegression(max_iter=500).fit(x, np.array(["setosa", "versicolor", "virginica"])[y])
    (folder / "zip.onnx").write_bytes(to_onnx(model, x[:1].astype(np.float32)).SerializeToString())
    expected = {"label": objects(model.predict(x[::25])), "probabilities": np.float32(model.predict_proba(x[::25]))}
    return Built(folder / "zip.onnx", {"X": np.float32(x[::25])}, expected)


def onnx_lightgbm(folder: Path) -> Built:
    """LightGBM's classifier, converted unasked as well."""
    from lightgbm import LGBMClassifier
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    x, y = iris_rows(150)
    model = LGBMClassifier(n_estimators=5, min_child_samples=5, verbose=-1, n_jobs=1).fit(x, y)
    converted = convert_lightgbm(model, initial_types=[("x", FloatTensorType([None, 4]))], target_opset=15)
    (folder / "boosted.onnx").write_bytes(converted.SerializeToString())
    rows = np.float32(x[::25])
    expected = {"label": model.predict(rows), "probabilities": np.float32(model.predict_proba(rows))}
    return Built(folder / "boosted.onnx", {"x": rows}, expected)


# scikit-learn


def _dumped(folder: Path, model: Any, inputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> Built:
    import skops.io

    skops.io.dump(model, folder / "model.skops")
    return Built(folder / "model.skops", inputs, expected)


def sklearn_regressor(folder: Path) -> Built:
    from sklearn.ensemble import RandomForestRegressor

    x, y = iris_rows(150)
    model = RandomForestRegressor(10, random_state=0).fit(x, y)
    built = _dumped(folder, model, {"x": x[::25]}, {"predictions": model.predict(x[::25])})
    # skops does not trust trees by itself: a crafted one could read outside its memory.
    return replace(built, config=ModelConfig("m", options={"trusted": ["sklearn.tree._tree.Tree"]}))


def sklearn_transformer(folder: Path) -> Built:
    from sklearn.decomposition import PCA

    x, _ = iris_rows(150)
    model = PCA(2).fit(x)
    return _dumped(folder, model, {"x": x[::25]}, {"transformed": model.transform(x[::25])})


def sklearn_clusters(folder: Path) -> Built:
    from sklearn.cluster import KMeans

    x, _ = iris_rows(150)
    model = KMeans(3, n_init=1, random_state=0).fit(x)
    return _dumped(folder, model, {"x": x[::25]}, {"label": model.predict(x[::25])})


def sklearn_text(folder: Path) -> Built:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = ["a good day", "a bad day", "good, very good", "bad, so bad"]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, ["up", "down", "up", "down"])
    expected = {"label": objects(model.predict(texts)), "probabilities": model.predict_proba(texts)}
    return _dumped(folder, model, {"text": objects(texts)}, expected)


# PyTorch


def torch_module() -> Any:
    """A small network with an output of each of two datatypes, the same at every call."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = self.linear(x)
            return logits.argmax(1), logits

    torch.manual_seed(0)
    return Net().eval()


def torch_values(rows: int = 5) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs of ``torch_module`` and what it answers in eager mode."""
    import torch

    x, _ = iris_rows(rows)
    with torch.inference_mode():
        values = torch_module()(torch.from_numpy(np.float32(x)))
    return {"x": np.float32(x)}, {f"output_{i}": value.numpy() for i, value in enumerate(values)}


def torch_exported(folder: Path, least: int | None = None, most: int | None = None, fixed: int = 0) -> Built:
    """Exported for ``least`` to ``most`` rows, or for ``fixed`` rows exactly."""
    import torch

    inputs, expected = torch_values(fixed or 5)
    shapes = None if fixed else ({0: torch.export.Dim("batch", min=least, max=most)},)
    example_rows = torch.zeros(fixed or 2, 4)
    program = torch.export.export(torch_module(), (example_rows,), dynamic_shapes=shapes)
    torch.export.save(program, folder / "net.pt2")
    return Built(folder / "net.pt2", inputs, expected)


def torch_bounded(folder: Path) -> Built:
    return torch_exported(folder, least=2, most=4)


def torch_fixed(folder: Path) -> Built:
    return torch_exported(folder, fixed=3)


TORCH_CONFIG = ModelConfig("m", inputs=(TensorSpec("x", "FP32", (-1, 4)),))


def torch_script(folder: Path) -> Built:
    import torch

    torch.jit.trace(torch_module(), torch.zeros(2, 4)).save(str(folder / "net.pt"))
    return Built(folder / "net.pt", *torch_values(), TORCH_CONFIG)
