"""Each runtime, over small real models, against the published check."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import boosted_builders as boosted
import mlflow_builders
import model_builders as builders
import tensorflow_builders
from inferd.core.errors import MissingExtra
from inferd.core.plugins import lookup
from inferd.testing.check_runtime import check_runtime

EXAMPLES = {
    "onnx": ("iris-onnx", "iris.onnx"),
    "sklearn": ("iris", "iris.skops"),
    "torch": ("digits", "digits.pt2"),
    "python": ("topic", "model.py"),
}
BUILDERS = [
    ("onnx", builders.onnx_text),
    ("onnx", builders.onnx_two_inputs),
    ("onnx", builders.onnx_zipmap),
    ("onnx", builders.onnx_lightgbm),
    ("sklearn", builders.sklearn_regressor),
    ("sklearn", builders.sklearn_transformer),
    ("sklearn", builders.sklearn_clusters),
    ("sklearn", builders.sklearn_text),
    ("torch", builders.torch_bounded),
    ("torch", builders.torch_fixed),
    ("torch", builders.torch_script),
    ("xgboost", boosted.xgboost_classes),
    ("xgboost", boosted.xgboost_two_classes),
    ("xgboost", boosted.xgboost_regressor),
    ("xgboost", boosted.xgboost_linear),
    ("lightgbm", boosted.lightgbm_classes),
    ("lightgbm", boosted.lightgbm_two_classes),
    ("lightgbm", boosted.lightgbm_regressor),
    ("catboost", boosted.catboost_classes),
    ("catboost", boosted.catboost_two_classes),
    ("catboost", boosted.catboost_regressor),
    ("catboost", boosted.catboost_categories),
    ("mlflow", mlflow_builders.mlflow_columns),
    ("mlflow", mlflow_builders.mlflow_tensor),
    ("mlflow", mlflow_builders.mlflow_boosted),
    ("mlflow", mlflow_builders.mlflow_function),
    ("mlflow", mlflow_builders.mlflow_binary),
    ("tensorflow", tensorflow_builders.keras_classes),
    ("tensorflow", tensorflow_builders.saved_model),
]
FRAMEWORKS = {
    "onnx": "onnxruntime",
    "sklearn": "sklearn",
    "torch": "torch",
    "python": "",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "mlflow": "mlflow",
    "tensorflow": "tensorflow",
}


def keeps_contract(runtime: str, built: builders.Built) -> None:
    check_runtime(
        lookup("inferd.runtimes", runtime),
        built.artefact,
        built.inputs,
        built.expected,
        config=built.config,
        framework=FRAMEWORKS[runtime],
    )


@pytest.mark.parametrize("runtime", EXAMPLES)
def test_the_committed_example_answers_its_golden_values(runtime):
    keeps_contract(runtime, builders.example(*EXAMPLES[runtime]))


@pytest.mark.parametrize(("runtime", "builder"), BUILDERS, ids=lambda value: getattr(value, "__name__", value))
def test_a_built_model_answers_what_its_framework_computes(runtime, builder, build):
    keeps_contract(runtime, build(builder))


@pytest.mark.parametrize("runtime", ["onnx", "sklearn", "torch", "xgboost", "lightgbm", "catboost", "mlflow"])
def test_an_absent_framework_is_named_with_the_extra_that_brings_it(runtime, monkeypatch):
    monkeypatch.setitem(sys.modules, FRAMEWORKS[runtime], None)  # import then fails as if it were not installed
    with pytest.raises(MissingExtra, match=rf"pip install 'inferd\[{runtime}\]'"):
        lookup("inferd.runtimes", runtime).load(builders.CONFIG, Path("absent"), "cpu")
