from pathlib import Path

import numpy as np
import pytest

import model_builders as builders
from inferd.core.config import ModelConfig
from inferd.core.errors import InvalidInput, LoadFailed
from inferd.core.tensors import TensorSpec
from inferd.runtimes.sklearn import RUNTIME


def load(artefact, **config):
    return RUNTIME.load(ModelConfig("m", **config), Path(artefact), "cpu")


def live(estimator, **config):
    return load("live", options={"object": estimator}, **config)


def run(model, outputs=(), **inputs):
    return model.execute(inputs, outputs, {}, "")


def outputs(model):
    return model.signatures["default"].outputs


def logistic(y=None):
    from sklearn.linear_model import LogisticRegression

    x, species = builders.iris_rows(30)
    return LogisticRegression(max_iter=500).fit(x, species if y is None else y)


def test_a_classifier_answers_label_and_probabilities(iris_skops):
    model = load(iris_skops.artefact)
    assert model.signatures["default"].inputs == (TensorSpec("x", "FP64", (-1, 4)),)
    assert outputs(model) == (
        TensorSpec("label", "BYTES", (-1,)),
        TensorSpec("probabilities", "FP64", (-1, 3)),
    )
    assert model.metadata.classes == ("setosa", "versicolor", "virginica")
    assert "sklearn_version" in model.metadata.provenance
    assert (model.batchable, model.user_code) == (True, False)


@pytest.mark.parametrize(
    ("labels", "datatype"), [([0, 1, 2] * 10, "INT64"), ([True, False] * 15, "BOOL"), (["a", "b", "c"] * 10, "BYTES")]
)
def test_labels_keep_their_datatype(labels, datatype):
    assert outputs(live(logistic(labels)))[0] == TensorSpec("label", datatype, (-1,))


def test_a_classifier_without_probabilities_answers_labels_alone():
    from sklearn.svm import LinearSVC

    model = live(LinearSVC().fit(*builders.iris_rows(30)))
    assert [spec.name for spec in outputs(model)] == ["label"]


def test_several_targets_are_columns():
    from sklearn.linear_model import Ridge
    from sklearn.tree import DecisionTreeClassifier

    x, y = builders.iris_rows(30)
    assert outputs(live(Ridge().fit(x, x[:, :2]))) == (TensorSpec("predictions", "FP64", (-1, 2)),)
    assert outputs(live(DecisionTreeClassifier().fit(x, np.c_[y, y]))) == (TensorSpec("label", "INT64", (-1, 2)),)


def test_only_what_is_asked_is_computed():
    estimator = logistic()
    model = live(estimator)
    del estimator.coef_  # now nothing can be computed, which shows that asking computes at all
    with pytest.raises(AttributeError):
        run(model, ("label",), x=np.zeros((1, 4)))


def test_sparse_results_are_dense(build):
    from sklearn.feature_extraction.text import TfidfVectorizer

    model = live(TfidfVectorizer().fit(["red blue", "blue"]))
    assert run(model, text=builders.objects(["blue"]))["transformed"].tolist() == [[1.0, 0.0]]


def test_a_search_is_served_as_its_best_pipeline():
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(CountVectorizer(), LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [1, 10]}, cv=2).fit(["up", "down"] * 4, ["+", "-"] * 4)
    assert run(live(search), ("label",), text=builders.objects(["down", "up"]))["label"].tolist() == [b"-", b"+"]


def test_text_that_is_not_utf8_is_the_callers_mistake(build):
    model = load(build(builders.sklearn_text).artefact)
    with pytest.raises(InvalidInput, match="not UTF-8"):
        run(model, text=np.array([b"\xff"], dtype=object))


def test_a_nan_is_the_callers_mistake(iris_skops):
    with pytest.raises(InvalidInput, match="contains NaN"):
        run(load(iris_skops.artefact), x=np.full((1, 4), np.nan))


def test_the_configuration_may_rename_and_narrow_the_input(iris_skops):
    model = load(iris_skops.artefact, inputs=(TensorSpec("flower", "FP32", (-1, 4)),))
    rows = np.float32(iris_skops.inputs["x"])
    assert run(model, ("label",), flower=rows)["label"].tolist() == iris_skops.expected["label"].tolist()


def test_code_that_skops_does_not_know_is_user_code(build):
    built = build(builders.sklearn_regressor)
    assert load(built.artefact, options=built.config.options).user_code
    assert live(logistic()).user_code


def test_untrusted_types_are_listed_with_the_setting_that_trusts_them(build):
    with pytest.raises(LoadFailed, match=r'set options.trusted = \["sklearn.tree._tree.Tree"\]'):
        load(build(builders.sklearn_regressor).artefact)


@pytest.mark.parametrize("suffix", ["joblib", "pkl", "pickle"])
def test_a_pickle_is_refused_in_one_line_that_names_both_ways_out(tmp_path, suffix):
    import joblib

    joblib.dump(logistic(), tmp_path / f"m.{suffix}")
    with pytest.raises(
        LoadFailed, match=r"runs any code.*skops\.io\.dump\(model, 'm\.skops'\).*--allow-pickle"
    ) as caught:
        load(tmp_path / f"m.{suffix}")
    assert "\n" not in caught.value.message


def test_a_pickle_is_not_touched_before_it_is_allowed(tmp_path):
    marker = tmp_path / "ran"
    evil = b"cos\nmkdir\n(V" + str(marker).encode() + b"\ntR."
    (tmp_path / "m.pkl").write_bytes(evil)
    with pytest.raises(LoadFailed):
        load(tmp_path / "m.pkl")
    assert not marker.exists()


def test_an_allowed_pickle_is_served(tmp_path):
    import joblib

    joblib.dump(logistic(), tmp_path / "m.joblib")
    model = load(tmp_path / "m.joblib", allow_pickle=True)
    assert run(model, ("label",), x=builders.iris_rows(3)[0])["label"].tolist() == [0, 1, 2]


def test_a_file_without_an_estimator_is_refused(tmp_path):
    import skops.io

    skops.io.dump({"a": 1}, tmp_path / "m.skops")
    with pytest.raises(LoadFailed, match="holds a dict, which is not an estimator"):
        load(tmp_path / "m.skops")


def test_an_estimator_that_is_not_fitted_is_refused():
    from sklearn.linear_model import Ridge

    with pytest.raises(LoadFailed, match="Ridge is not fitted"):
        live(Ridge())


def test_another_device_is_refused(iris_skops):
    with pytest.raises(LoadFailed, match="on the CPU"):
        RUNTIME.load(ModelConfig("m"), iris_skops.artefact, "cuda:0")
