"""The benchmark's models, built once into `benchmarks/.models`: each has one input `x` and one output `y`, FP32."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / ".models"
# One intra-op thread for ours, as on every other side.
MODEL_TOML = "[execution]\nintra_op_threads = 1\n"
OPSET = 17


def model_path(name: str) -> Path:
    """The ONNX file of that name, built if it is not there; its folder's parent is a model folder for `serve`."""
    path = FOLDER / name / "1" / "model.onnx"
    if not path.exists():
        import onnx

        path.parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / name / "model.toml").write_text(MODEL_TOML)
        partial = path.with_suffix(".partial")
        onnx.save(BUILDERS[name](), partial)
        partial.rename(path)
    return path


def example(name: str, seed: int) -> np.ndarray:
    """An input for the model of that name: [rows, ...], float32."""
    return np.random.default_rng(seed).normal(size=SHAPES[name]).astype(np.float32)


def build_logistic() -> Any:
    """Logistic regression on iris: 4 numbers to 3 probabilities."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    features, classes = load_iris(return_X_y=True)
    features = features.astype(np.float32)
    fitted = LogisticRegression(max_iter=500).fit(features, classes)
    return _named(to_onnx(fitted, features[:1], options={"zipmap": False}, target_opset=OPSET), "probabilities")


def build_trees() -> Any:
    """A hundred boosted trees of 31 leaves: 30 numbers to 2 probabilities."""
    from lightgbm import LGBMClassifier
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    rng = np.random.default_rng(1)
    features = rng.normal(size=(4000, 30)).astype(np.float32)
    classes = (features[:, 0] * features[:, 1] + features[:, 2] > rng.normal(size=4000) / 2).astype(int)
    fitted = LGBMClassifier(n_estimators=100, num_leaves=31, n_jobs=1, verbose=-1).fit(features, classes)
    types = [("x", FloatTensorType([None, 30]))]
    return _named(convert_lightgbm(fitted, initial_types=types, zipmap=False, target_opset=15), "probabilities")


def build_mlp() -> Any:
    """1024-4096-4096-1000 with ReLU, random weights."""
    graph = _Graph()
    last = "x"
    widths = (1024, 4096, 4096, 1000)
    for layer, (rows, columns) in enumerate(itertools.pairwise(widths)):
        last = graph.dense(last, rows, columns)
        if layer < 2:
            last = graph.add("Relu", [last])
    return graph.model(last, ["N", 1024], ["N", 1000])


def build_image() -> Any:
    """An 18-layer residual network on 3x224x224 with the normalisation folded into the convolutions, random weights."""
    graph = _Graph()
    last = graph.add("Relu", [graph.convolution("x", 3, 64, 7, 2)])
    last = graph.add("MaxPool", [last], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for width in (64, 64, 128, 128, 256, 256, 512, 512):
        stride = 1 if width == channels else 2
        inner = graph.add("Relu", [graph.convolution(last, channels, width, 3, stride)])
        inner = graph.convolution(inner, width, width, 3, 1)
        short = last if stride == 1 else graph.convolution(last, channels, width, 1, stride)
        last = graph.add("Relu", [graph.add("Add", [inner, short])])
        channels = width
    last = graph.add("Flatten", [graph.add("GlobalAveragePool", [last])])
    return graph.model(graph.dense(last, 512, 1000), ["N", 3, 224, 224], ["N", 1000])


class _Graph:
    """Nodes and random weights of a network, in order."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        from onnx import helper

        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def weight(self, *shape: int, fan_in: int) -> str:
        from onnx import numpy_helper

        name = f"w{len(self.weights)}"
        # Small enough for the residual sums to stay in range through all layers.
        values = self.rng.normal(scale=np.sqrt(1 / fan_in), size=shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def dense(self, last: str, rows: int, columns: int) -> str:
        bias = self.weight(columns, fan_in=rows)
        return self.add("Gemm", [last, self.weight(rows, columns, fan_in=rows), bias])

    def convolution(self, last: str, channels: int, width: int, kernel: int, stride: int) -> str:
        fan_in = channels * kernel * kernel
        weight = self.weight(width, channels, kernel, kernel, fan_in=fan_in)
        bias = self.weight(width, fan_in=fan_in)
        sides = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        return self.add("Conv", [last, weight, bias], **sides)

    def model(self, last: str, taken: list[int | str], given: list[int | str]) -> Any:
        from onnx import TensorProto, helper

        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, taken)
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, given)
        self.nodes.append(helper.make_node("Identity", [last], ["y"]))
        graph = helper.make_graph(self.nodes, "benchmark", [x], [y], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def _named(model: Any, kept: str) -> Any:
    """The only input renamed to x, the output ``kept`` to y, and every other output dropped."""
    names = {model.graph.input[0].name: "x", kept: "y"}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    model.graph.input[0].name = "x"
    (output,) = [output for output in model.graph.output if output.name == kept]
    del model.graph.output[:]
    output.name = "y"
    model.graph.output.append(output)
    return model


BUILDERS: dict[str, Callable[[], Any]] = {
    "logistic": build_logistic,
    "trees": build_trees,
    "mlp": build_mlp,
    "image": build_image,
}
SHAPES = {"logistic": (1, 4), "trees": (1000, 30), "mlp": (1, 1024), "image": (1, 3, 224, 224)}
