"""Builds ONNX networks with random weights: they answer nothing useful, they cost what real ones cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8


@dataclass
class Graph:
    """Nodes and weights of a network in the making; each method appends one step and returns its output's name."""

    random: np.random.Generator
    nodes: list[NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)

    def step(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def weight(self, *shape: int) -> str:
        """Random numbers scaled so that the values keep their size through the layers (He initialisation)."""
        fan_in = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        values = self.random.standard_normal(shape, dtype=np.float32) * np.float32((2 / fan_in) ** 0.5)
        self.weights.append(numpy_helper.from_array(values, f"weight_{len(self.weights)}"))
        return self.weights[-1].name

    def convolution(self, x: str, channels: tuple[int, int], kernel: int, stride: int = 1) -> str:
        weight = self.weight(channels[1], channels[0], kernel, kernel)
        return self.step("Conv", [x, weight], strides=[stride] * 2, pads=[kernel // 2] * 4)

    def block(self, x: str, channels: tuple[int, int], stride: int) -> str:
        """The basic residual block: two 3x3 convolutions beside a shortcut."""
        y = self.step("Relu", [self.convolution(x, channels, 3, stride)])
        y = self.convolution(y, (channels[1], channels[1]), 3)
        shortcut = x if channels[0] == channels[1] else self.convolution(x, channels, 1, stride)
        return self.step("Relu", [self.step("Add", [y, shortcut])])

    def model(self, shape: Sequence[int], classes: int, last: str) -> ModelProto:
        """The network from input ``x`` to output ``logits``, any number of rows in a batch."""
        self.nodes.append(helper.make_node("Identity", [last], ["logits"]))
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])
        graph = helper.make_graph(self.nodes, "network", [x], [logits], self.weights)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="inferd-examples",
        )


def image_network(seed: int = 0) -> ModelProto:
    """A residual network of 18 layers for 3x224x224 images and 1,000 classes: 47 MB."""
    graph = Graph(np.random.default_rng(seed))
    x = graph.step("Relu", [graph.convolution("x", (3, 64), 7, 2)])
    x = graph.step("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for before, channels in ((64, 64), (64, 128), (128, 256), (256, 512)):
        x = graph.block(x, (before, channels), 1 if before == channels else 2)
        x = graph.block(x, (channels, channels), 1)
    x = graph.step("Flatten", [graph.step("GlobalAveragePool", [x])])
    return graph.model((3, 224, 224), 1000, graph.step("MatMul", [x, graph.weight(512, 1000)]))


def dense_network(widths: Sequence[int] = (1024, 4096, 4096, 1000), seed: int = 0) -> ModelProto:
    """A multilayer perceptron of these widths: 100 MB as it stands."""
    graph = Graph(np.random.default_rng(seed))
    x = "x"
    for layer, (before, after) in enumerate(pairwise(widths)):
        x = graph.step("MatMul", [x if layer == 0 else graph.step("Relu", [x]), graph.weight(before, after)])
    return graph.model(widths[:1], widths[-1], x)
