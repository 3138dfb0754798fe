from pathlib import Path

import numpy as np
import pytest

import boosted_builders as builders
from inferd.core.config import ModelConfig
from inferd.core.errors import InvalidInput, LoadFailed
from inferd.core.tensors import TensorSpec
from inferd.repository.artefact import find_artefact
from inferd.runtimes.catboost import RUNTIME
from model_builders import iris_rows, objects


def load(artefact, **config):
    return RUNTIME.load(ModelConfig("m", **config), Path(artefact), "cpu")


def run(model, outputs=(), **inputs):
    return model.execute(inputs, outputs, {}, "")


def trained(folder, target, kind="CatBoostClassifier", **params):
    """A model, what inferd makes of its file, and some rows."""
    import catboost

    x, _ = iris_rows(150)
    model = getattr(catboost, kind)(**builders.FEW, **params).fit(x, target)
    model.save_model(folder / "m.cbm")
    return model, load(folder / "m.cbm"), np.float32(x[::25])


def test_a_classifier_answers_the_classes_that_its_file_names(build):
    model = load(build(builders.catboost_classes).artefact)
    signature = model.signatures["default"]
    assert signature.inputs == (TensorSpec("x", "FP32", (-1, 4)),)
    assert signature.outputs == (TensorSpec("label", "BYTES", (-1,)), TensorSpec("probabilities", "FP64", (-1, 3)))
    assert (model.metadata.classes, model.metadata.feature_names) == (builders.SPECIES, ())
    assert model.metadata.provenance["objective"] == "MultiClass"


def test_option_classes_comes_before_what_the_file_says(build):
    built = build(builders.catboost_classes)
    model = load(built.artefact, options={"classes": ["a", "b", "c"]})
    assert set(run(model, ("label",), **built.inputs)["label"]) == {b"a", b"b", b"c"}


def test_named_columns_are_the_inputs_documentation(build):
    model = load(build(builders.catboost_two_classes).artefact)
    assert model.metadata.feature_names[:2] == ("mean radius", "mean texture")


def test_a_model_with_categories_takes_each_feature_by_its_name(build):
    signature = load(build(builders.catboost_categories).artefact).signatures["default"]
    datatypes = {"place": "BYTES", "length": "FP32", "code": "BYTES", "width": "FP32", "note": "BYTES"}
    assert {spec.name: spec.datatype for spec in signature.inputs} == datatypes
    assert all(spec.shape == (-1,) for spec in signature.inputs)


def test_a_category_of_whole_numbers_may_be_declared_as_such(build):
    built = build(builders.catboost_categories)
    model = load(built.artefact, inputs=(TensorSpec("code", "INT64", (-1,)),))
    codes = np.array([int(code) for code in built.inputs["code"]])
    answer = run(model, **{**built.inputs, "code": codes})
    assert answer["probabilities"] == pytest.approx(built.expected["probabilities"])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (TensorSpec("place", "FP32", (-1,)), "'place' is .* must be a category, BYTES or whole numbers"),
        (TensorSpec("length", "BYTES", (-1,)), "'length' is .* must be numbers"),
        (TensorSpec("length", "FP32", (-1, 1)), "'length' is .* must be numbers"),
        (TensorSpec("size", "FP32", (-1,)), "names an input 'size'; the model has place, length, code, width, note"),
    ],
)
def test_a_configured_column_that_cannot_hold_its_feature_is_refused(build, inputs, message):
    with pytest.raises(LoadFailed, match=message):
        load(build(builders.catboost_categories).artefact, inputs=(inputs,))


def test_text_that_is_no_text_is_the_callers_mistake(build):
    built = build(builders.catboost_categories)
    rows = {name: array[:1] for name, array in built.inputs.items()}
    with pytest.raises(InvalidInput, match="not UTF-8"):
        run(load(built.artefact), **{**rows, "place": np.array([b"\xff"], dtype=object)})


def test_no_rows_are_no_answers(build):
    answer = run(load(build(builders.catboost_classes).artefact), x=np.zeros((0, 4), np.float32))
    assert [array.shape for array in answer.values()] == [(0,), (0, 3)]
    built = build(builders.catboost_categories)
    answer = run(load(built.artefact), **{name: array[:0] for name, array in built.inputs.items()})
    assert [array.shape for array in answer.values()] == [(0,), (0, 3)]


def test_several_labels_a_row_are_columns(tmp_path):
    _, y = iris_rows(150)
    model, served, rows = trained(tmp_path, np.c_[y == 0, y == 1].astype(int), loss_function="MultiLogloss")
    answer = run(served, x=rows)
    assert (answer["label"] == model.predict(rows)).all()
    assert (answer["probabilities"] == model.predict_proba(rows)).all()


def test_truth_stays_truth(tmp_path):
    _, y = iris_rows(150)
    model, served, rows = trained(tmp_path, y > 1)
    assert served.signatures["default"].outputs[0].datatype == "BOOL"
    assert (run(served, x=rows)["label"] == (model.predict_proba(rows)[:, 1] > 0.5)).all()


@pytest.mark.parametrize("loss", ["RMSE", "MultiRMSE", "Tweedie:variance_power=1.5", "RMSEWithUncertainty"])
def test_a_regressor_answers_what_its_estimator_does(tmp_path, loss):
    x, y = iris_rows(150)
    target = np.c_[y, x[:, 0]] if loss == "MultiRMSE" else x[:, 0]
    model, served, rows = trained(tmp_path, target, "CatBoostRegressor", loss_function=loss)
    assert run(served, x=rows)["predictions"] == pytest.approx(model.predict(rows))
    assert served.metadata.provenance["objective"] == loss.partition(":")[0]


def test_a_sum_of_models_is_served_as_they_are(tmp_path):
    import catboost

    _, y = iris_rows(150)
    model, _, rows = trained(tmp_path, y > 1)
    total = catboost.sum_models([model, model])
    total.save_model(tmp_path / "sum.cbm")
    answer = run(load(tmp_path / "sum.cbm"), x=rows)
    assert answer["probabilities"] == pytest.approx(total.predict(rows, prediction_type="Probability"))
    assert answer["label"].dtype == bool


@pytest.mark.parametrize("part", [0.001, 0.3, 0.7, 0.99])
def test_a_file_that_is_only_half_copied_is_refused(tmp_path, build, part):
    content = build(builders.catboost_classes).artefact.read_bytes()
    (tmp_path / "half.cbm").write_bytes(content[: int(len(content) * part)])
    with pytest.raises(LoadFailed, match=r"half\.cbm is .*; was it copied whole"):
        load(tmp_path / "half.cbm")


def test_a_length_that_is_a_lie_is_refused_before_memory_is_asked_for(tmp_path):
    (tmp_path / "long.cbm").write_bytes(b"CBM1" + b"\xff" * 100)
    with pytest.raises(LoadFailed, match=r"long\.cbm is shorter than it says"):
        load(tmp_path / "long.cbm")


def test_another_format_under_the_name_is_refused(tmp_path):
    import catboost

    x, y = iris_rows(150)
    catboost.CatBoostClassifier(**builders.FEW).fit(x, y).save_model(tmp_path / "odd.cbm", format="json")
    with pytest.raises(LoadFailed, match=r"odd\.cbm is not a model in CatBoost's binary format"):
        load(tmp_path / "odd.cbm")


def test_embeddings_are_refused_with_the_reason(tmp_path):
    import catboost
    import pandas

    x, y = iris_rows(150)
    frame = pandas.DataFrame({"point": [row.tolist() for row in x], "length": x[:, 0]})
    model = catboost.CatBoostClassifier(embedding_features=["point"], **builders.FEW).fit(frame, y)
    model.save_model(tmp_path / "points.cbm")
    with pytest.raises(LoadFailed, match="has embeddings among its features"):
        load(tmp_path / "points.cbm")


def test_an_output_alone_and_another_device(build):
    built = build(builders.catboost_classes)
    assert list(run(load(built.artefact), ("probabilities",), **built.inputs)) == ["probabilities"]
    with pytest.raises(LoadFailed, match="served on the CPU, not on 'cuda:0'"):
        RUNTIME.load(ModelConfig("m"), built.artefact, "cuda:0")


def test_it_is_found_in_a_versions_folder(tmp_path, build):
    (tmp_path / "notes.txt").write_text("trees are nice")
    (tmp_path / "model.cbm").write_bytes(build(builders.catboost_classes).artefact.read_bytes())
    assert find_artefact(tmp_path) == tmp_path / "model.cbm"


def test_a_category_nobody_has_seen_is_answered_too(build):
    built = build(builders.catboost_categories)
    rows = {**built.inputs, "place": objects(["nowhere"] * len(built.inputs["place"]))}
    assert run(load(built.artefact), **rows)["label"].shape == (len(rows["place"]),)
