"""TensorFlow's files: signatures, threads of use, what cannot be loaded."""

import numpy as np
import pytest

import tensorflow_builders as builders
from inferd.core.config import ModelConfig
from inferd.core.errors import InvalidInput, LoadFailed
from inferd.repository.artefact import find_artefact
from inferd.repository.loader import load_version
from inferd.runtimes.tensorflow import RUNTIME


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    return builders.saved_model(folder)


def test_the_default_signature_is_the_one_that_serving_uses(exported):
    model = RUNTIME.load(ModelConfig("m"), exported.artefact, "auto")
    assert list(model.signatures) == ["serving_default", "lengths"]
    assert model.batchable
    assert [(each.name, each.datatype, each.shape) for each in model.signatures["serving_default"].inputs] == [
        ("x", "FP32", (-1, 4))
    ]


def test_another_signature_is_executed_by_its_name(exported):
    model = RUNTIME.load(ModelConfig("m"), exported.artefact, "cpu")
    texts = np.array([b"four", b"\xff"], dtype=object)
    assert model.execute({"text": texts}, (), {}, "lengths")["length"].tolist() == [4, 1]
    assert set(model.execute(exported.inputs, ("label",), {}, "")) == {"label"}


def test_a_version_folder_that_is_a_saved_model_is_the_artefact(exported):
    assert find_artefact(exported.artefact) == exported.artefact
    loaded = load_version(ModelConfig("m"), 1, exported.artefact)
    assert loaded.runtime == "tensorflow"
    loaded.close()


def test_golden_examples_lie_in_the_folder_of_a_saved_model(tmp_path):
    built = builders.saved_model(tmp_path)
    arrays = {"input.x": built.inputs["x"], "output.probabilities": built.expected["probabilities"] + 1}
    np.savez(built.artefact / "golden.npz", **arrays)
    with pytest.raises(LoadFailed, match=r"golden\.npz: output 'probabilities' differs"):
        load_version(ModelConfig("m"), 1, built.artefact)


def test_a_damaged_file_is_one_sentence(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"nonsense")
    (tmp_path / "broken.keras").write_bytes(b"nonsense")
    for artefact in (tmp_path, tmp_path / "broken.keras"):
        with pytest.raises(LoadFailed, match="TensorFlow cannot load"):
            RUNTIME.load(ModelConfig("m"), artefact, "cpu")


def test_a_gpu_that_is_not_there_is_refused(exported):
    with pytest.raises(LoadFailed, match="sees no device 'cuda:7'"):
        RUNTIME.load(ModelConfig("m"), exported.artefact, "cuda:7")


def test_code_in_a_keras_file_is_refused(tmp_path):
    import keras

    inputs = keras.Input((2,), name="x")
    keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs)).save(tmp_path / "code.keras")
    with pytest.raises(LoadFailed, match="TensorFlow cannot load code"):
        RUNTIME.load(ModelConfig("m"), tmp_path / "code.keras", "cpu")


def test_what_the_graph_refuses_is_the_callers_mistake(tmp_path):
    import tensorflow as tf

    class Table(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.int64, "row")])
        def look_up(self, row):
            return {"value": tf.gather(tf.constant([1.0, 2.0]), row)}

    table = Table()
    tf.saved_model.save(table, str(tmp_path / "table"), signatures={"serving_default": table.look_up})
    model = RUNTIME.load(ModelConfig("m"), tmp_path / "table", "cpu")
    assert model.execute({"row": np.array([1, 0])}, (), {}, "")["value"].tolist() == [2.0, 1.0]
    with pytest.raises(InvalidInput):
        model.execute({"row": np.array([9])}, (), {}, "")
