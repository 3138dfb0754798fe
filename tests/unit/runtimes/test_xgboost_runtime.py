from pathlib import Path

import numpy as np
import pytest

import boosted_builders as builders
from inferd.core.config import ExecutionConfig, ModelConfig
from inferd.core.errors import LoadFailed
from inferd.core.tensors import TensorSpec
from inferd.repository.artefact import find_artefact
from inferd.runtimes.xgboost import RUNTIME
from model_builders import iris_rows


def load(artefact, **config):
    return RUNTIME.load(ModelConfig("m", **config), Path(artefact), "cpu")


def run(model, outputs=(), **inputs):
    return model.execute(inputs, outputs, {}, "")


def trained(folder, target=None, **params):
    """A booster of the native interface, which writes no attributes of scikit-learn's."""
    import xgboost

    x, y = iris_rows(150)
    booster = xgboost.train({"nthread": 1, **params}, xgboost.DMatrix(x, y if target is None else target), 3)
    booster.save_model(folder / "native.json")
    return folder / "native.json", np.float32(x[::25])


def test_a_classifier_answers_numbers_until_its_classes_are_named(build):
    built = build(builders.xgboost_classes)
    model = load(built.artefact)
    signature = model.signatures["default"]
    assert signature.inputs == (TensorSpec("x", "FP32", (-1, 4)),)
    assert signature.outputs == (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 3)))
    assert model.metadata.classes == (0, 1, 2)
    assert load(built.artefact, options=built.config.options).metadata.classes == builders.SPECIES


def test_named_columns_are_the_inputs_documentation(build):
    model = load(build(builders.xgboost_two_classes).artefact)
    assert model.metadata.feature_names[:2] == ("mean radius", "mean texture")
    assert model.metadata.provenance["objective"] == "binary:logistic"


@pytest.mark.parametrize("objective", ["multi:softmax", "multi:softprob"])
def test_a_model_trained_to_answer_labels_answers_probabilities_too(tmp_path, objective):
    artefact, rows = trained(tmp_path, objective=objective, num_class=3)
    answer = run(load(artefact), x=rows)
    assert answer["probabilities"].sum(axis=1) == pytest.approx(np.ones(len(rows)))
    assert (answer["label"] == answer["probabilities"].argmax(axis=1)).all()


def test_several_labels_a_row_are_columns(tmp_path):
    _, y = iris_rows(150)
    artefact, rows = trained(tmp_path, objective="binary:logistic", target=np.c_[y == 0, y == 1])
    model = load(artefact)
    assert [spec.shape for spec in model.signatures["default"].outputs] == [(-1, 2), (-1, 2)]
    assert run(model, ("label",), x=rows)["label"][:2].tolist() == [[1, 0], [1, 0]]


def test_no_rows_are_no_answers(build):
    answer = run(load(build(builders.xgboost_classes).artefact), x=np.zeros((0, 4), np.float32))
    assert [array.shape for array in answer.values()] == [(0,), (0, 3)]


def test_the_configuration_may_rename_and_widen_the_input(build):
    built = build(builders.xgboost_classes)
    model = load(built.artefact, inputs=(TensorSpec("flower", "FP64", (-1, 4)),))
    rows = np.float64(built.inputs["x"])
    assert run(model, flower=rows)["probabilities"] == pytest.approx(built.expected["probabilities"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"inputs": (TensorSpec("x", "FP32", (-1, 5)),)}, r"must be numbers \[-1, 4\]"),
        ({"inputs": (TensorSpec("x", "BYTES", (-1, 4)),)}, r"must be numbers \[-1, 4\]"),
        ({"options": {"classes": ["a", "b"]}}, "a list of 3 labels"),
        ({"outputs": (TensorSpec("scores", "FP32", (-1, 3)),)}, "'scores'; the model has label, probabilities"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(build, config, message):
    with pytest.raises(LoadFailed, match=message):
        load(build(builders.xgboost_classes).artefact, **config)


def test_another_device_is_refused(build):
    with pytest.raises(LoadFailed, match="served on the CPU, not on 'cuda:0'"):
        RUNTIME.load(ModelConfig("m"), build(builders.xgboost_classes).artefact, "cuda:0")


def test_each_instance_has_the_threads_it_was_given(build):
    import json

    model = load(build(builders.xgboost_classes).artefact, execution=ExecutionConfig(intra_op_threads=3))
    booster = model._ensemble.predict.__closure__[0].cell_contents
    assert json.loads(booster.save_config())["learner"]["generic_param"]["nthread"] == "3"


def test_other_json_is_no_model(tmp_path, build):
    built = build(builders.xgboost_two_classes)
    (tmp_path / "notes.json").write_text('{"title": "nothing to learn"}')
    (tmp_path / "model.json").write_bytes(built.artefact.read_bytes())
    assert find_artefact(tmp_path) == tmp_path / "model.json"
