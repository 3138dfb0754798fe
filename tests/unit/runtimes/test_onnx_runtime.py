import weakref
from pathlib import Path

import numpy as np
import pytest

import model_builders as builders
from inferd.core.config import ExecutionConfig, ModelConfig
from inferd.core.errors import InvalidRequest, LoadFailed
from inferd.core.tensors import TensorSpec
from inferd.runtimes.onnx import RUNTIME


def load(artefact, **config):
    return RUNTIME.load(ModelConfig("m", **config), artefact, "cpu")


def run(model, outputs=(), **inputs):
    return model.execute(inputs, outputs, {}, "")


def spec(model, name):
    signature = model.signatures["default"]
    return next(spec for spec in (*signature.inputs, *signature.outputs) if spec.name == name)


def relu(folder, input_shape, output_shape, **metadata):
    from onnx import TensorProto, helper

    return builders.onnx_graph(
        folder / "relu.onnx",
        [helper.make_node("Relu", ["x"], ["y"])],
        {"x": (TensorProto.FLOAT, input_shape)},
        {"y": (TensorProto.FLOAT, output_shape)},
        **metadata,
    )


def test_the_signature_is_the_graphs(iris_onnx):
    model = load(iris_onnx.artefact)
    assert spec(model, "x") == TensorSpec("x", "FP32", (-1, 4))
    assert spec(model, "label") == TensorSpec("label", "BYTES", (-1,))
    assert spec(model, "probabilities") == TensorSpec("probabilities", "FP32", (-1, 3))
    assert (model.batchable, model.concurrent, model.user_code) == (True, True, False)


def test_classes_and_origin_come_from_the_files_metadata(iris_onnx):
    metadata = load(iris_onnx.artefact).metadata
    assert metadata.classes == ("setosa", "versicolor", "virginica")
    assert metadata.provenance["producer"] == "skl2onnx"


def test_classes_may_be_a_json_list(tmp_path):
    assert load(relu(tmp_path, ["n", 2], ["n", 2], labels='["a, b", "c"]')).metadata.classes == ("a, b", "c")


@pytest.mark.parametrize("builder", [builders.onnx_zipmap, builders.onnx_lightgbm])
def test_a_zipmap_is_served_as_a_matrix_with_its_classes(builder, build):
    model = load(build(builder).artefact)
    assert model.signatures["default"].output_names == ("label", "probabilities")
    assert spec(model, "probabilities").shape == (-1, 3)
    assert len(model.metadata.classes) == 3
    assert model.batchable


def test_the_output_alone_of_a_zipmap_is_the_matrix(build):
    built = build(builders.onnx_zipmap)
    answer = run(load(built.artefact), ("probabilities",), **built.inputs)
    np.testing.assert_allclose(answer["probabilities"], built.expected["probabilities"], atol=1e-5)


def test_a_fixed_batch_dimension_is_served_without_batching(build):
    built = build(builders.onnx_two_inputs)
    model = load(built.artefact)
    assert not model.batchable
    assert run(model, ("twice",), **built.inputs)["twice"].tolist() == [[2, 4, 6]]


def test_inputs_whose_free_dimensions_have_different_names_are_not_batched(tmp_path):
    from onnx import TensorProto, helper

    tensors = {"a": (TensorProto.FLOAT, ["n"]), "b": (TensorProto.FLOAT, ["m"])}
    nodes = [helper.make_node("Concat", ["a", "b"], ["joined"], axis=0)]
    artefact = builders.onnx_graph(tmp_path / "c.onnx", nodes, tensors, {"joined": (TensorProto.FLOAT, ["k"])})
    assert not load(artefact).batchable


def test_the_configuration_may_forbid_batching(iris_onnx):
    assert not load(iris_onnx.artefact, batchable=False).batchable


def test_the_configuration_cannot_demand_batching_of_a_fixed_batch(build):
    with pytest.raises(LoadFailed, match=r"'a' is FP32\[1, 3\]: its first dimension is fixed"):
        load(build(builders.onnx_two_inputs).artefact, batchable=True)


def test_configured_outputs_are_the_only_ones_served(iris_onnx):
    model = load(iris_onnx.artefact, outputs=(TensorSpec("label", "BYTES", (-1,)),))
    assert list(run(model, **iris_onnx.inputs)) == ["label"]


def test_a_configured_input_narrows_what_the_graph_leaves_open(tmp_path):
    model = load(relu(tmp_path, ["n", "width"], ["n", "width"]), inputs=(TensorSpec("x", "FP32", (-1, 7)),))
    assert spec(model, "x").shape == (-1, 7)


def test_a_configured_name_that_the_graph_lacks_is_refused(iris_onnx):
    with pytest.raises(LoadFailed, match="names an input 'features'; the model has x"):
        load(iris_onnx.artefact, inputs=(TensorSpec("features", "FP32", (-1, 4)),))


def test_text_that_is_not_utf8_is_the_callers_mistake(build):
    model = load(build(builders.onnx_text).artefact)
    with pytest.raises(InvalidRequest, match="'text' holds text that is not UTF-8"):
        run(model, text=np.array([b"\xff"], dtype=object))


def test_a_tensor_type_without_a_datatype_is_named(tmp_path):
    from onnx import TensorProto, helper

    brain_floats = (TensorProto.BFLOAT16, ["n"])
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    artefact = builders.onnx_graph(tmp_path / "c.onnx", nodes, {"x": brain_floats}, {"y": brain_floats})
    with pytest.raises(LoadFailed, match=r"'y' is a tensor\(bfloat16\)"):
        load(artefact)


def test_a_broken_file_is_refused_without_its_path(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a graph")
    with pytest.raises(LoadFailed, match=r"broken\.onnx is not a model") as caught:
        load(broken)
    assert str(tmp_path) not in caught.value.message


def test_a_device_that_is_not_there_is_refused(iris_onnx):
    with pytest.raises(LoadFailed, match="device 'tpu:0' is not one of"):
        RUNTIME.load(ModelConfig("m"), iris_onnx.artefact, "tpu:0")


def test_closing_frees_the_session(iris_onnx):
    model = load(iris_onnx.artefact)
    session = weakref.ref(model._session)
    model.close()
    assert session() is None


def threads_of(model):
    return model._session.get_session_options().intra_op_num_threads


def test_threads_are_as_configured(iris_onnx):
    assert threads_of(load(iris_onnx.artefact, execution=ExecutionConfig(intra_op_threads=3))) == 3


def test_one_intra_op_thread_starts_no_thread(iris_onnx):
    tasks = Path("/proc/self/task")
    load(iris_onnx.artefact, execution=ExecutionConfig(intra_op_threads=1))
    before = set(tasks.iterdir())
    load(iris_onnx.artefact, execution=ExecutionConfig(intra_op_threads=1))
    assert set(tasks.iterdir()) <= before


def test_files_are_claimed_by_suffix():
    assert RUNTIME.claims(Path("a.onnx"))
    assert RUNTIME.claims(Path("A.ONNX"))
    assert not RUNTIME.claims(Path("onnx.bin"))
