import re
from pathlib import Path

import numpy as np
import pytest

import boosted_builders as builders
from inferd.core.config import ModelConfig
from inferd.core.errors import LoadFailed
from inferd.core.tensors import TensorSpec
from inferd.repository.artefact import find_artefact
from inferd.runtimes.lightgbm import RUNTIME
from model_builders import iris_rows


def load(artefact, **config):
    return RUNTIME.load(ModelConfig("m", **config), Path(artefact), "cpu")


def run(model, outputs=(), **inputs):
    return model.execute(inputs, outputs, {}, "")


def trained(folder, **params):
    """A booster of the native interface, and some rows."""
    import lightgbm

    x, y = iris_rows(150)
    booster = lightgbm.train({"verbose": -1, "num_threads": 1, **params}, lightgbm.Dataset(x, y), 3)
    booster.save_model(folder / "native.txt")
    return booster, load(folder / "native.txt"), x[::25]


def test_a_classifier_answers_numbers_until_its_classes_are_named(build):
    built = build(builders.lightgbm_classes)
    signature = load(built.artefact).signatures["default"]
    assert signature.inputs == (TensorSpec("x", "FP64", (-1, 4)),)
    assert signature.outputs == (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP64", (-1, 3)))
    metadata = load(built.artefact, options=built.config.options).metadata
    assert (metadata.classes, metadata.feature_names) == (builders.SPECIES, ())


def test_named_columns_are_the_inputs_documentation(build):
    model = load(build(builders.lightgbm_two_classes).artefact)
    assert model.metadata.feature_names[:2] == ("mean_radius", "mean_texture")
    assert model.metadata.provenance == {"objective": "binary", "format": "v4"}


def test_one_against_the_others_is_a_classifier_too(tmp_path):
    booster, model, rows = trained(tmp_path, objective="multiclassova", num_class=3)
    assert (run(model, x=rows)["probabilities"] == booster.predict(rows)).all()


def test_an_objective_of_ones_own_answers_raw_scores(tmp_path):
    def gradient(scores, data):
        return scores - data.get_label(), np.ones_like(scores)

    booster, model, rows = trained(tmp_path, objective=gradient)
    assert (run(model, x=rows)["predictions"] == booster.predict(rows)).all()
    assert model.metadata.provenance["objective"] == "custom"


def test_no_rows_are_no_answers(build):
    answer = run(load(build(builders.lightgbm_classes).artefact), x=np.zeros((0, 4)))
    assert [array.shape for array in answer.values()] == [(0,), (0, 3)]


@pytest.mark.parametrize("part", [0.3, 0.5, 0.7])
def test_a_file_that_is_only_half_copied_is_refused(tmp_path, build, part):
    text = build(builders.lightgbm_classes).artefact.read_bytes()
    end = text.index(b"end of trees")
    (tmp_path / "half.txt").write_bytes(text[: int(end * part)])
    with pytest.raises(LoadFailed, match=r"half\.txt is damaged: .* was it copied whole"):
        load(tmp_path / "half.txt")


def test_what_lightgbm_itself_refuses_is_refused_in_its_words(tmp_path, build):
    text = build(builders.lightgbm_classes).artefact.read_text()
    (tmp_path / "odd.txt").write_text(re.sub("num_class=3", "number=3", text, count=1))
    with pytest.raises(LoadFailed, match=r"LightGBM cannot load odd\.txt: Model file doesn't specify the number of"):
        load(tmp_path / "odd.txt")


def test_other_text_is_no_model(tmp_path, build):
    (tmp_path / "notes.txt").write_text("trees are nice")
    (tmp_path / "model.txt").write_bytes(build(builders.lightgbm_classes).artefact.read_bytes())
    assert find_artefact(tmp_path) == tmp_path / "model.txt"
