import warnings
from pathlib import Path

import numpy as np
import pytest

import model_builders as builders
from inferd.core.config import ModelConfig
from inferd.core.errors import LoadFailed
from inferd.core.tensors import TensorSpec
from inferd.runtimes.torch import RUNTIME


def load(artefact, **config):
    return RUNTIME.load(ModelConfig("m", **config), artefact, "cpu")


def run(model, outputs=(), **inputs):
    return model.execute(inputs, outputs, {}, "")


def export(path, module, *example, **options):
    import torch

    torch.export.save(torch.export.export(module.eval(), example, **options), path)
    return path


def test_names_datatypes_and_shapes_come_from_the_program(digits):
    model = load(digits.artefact)
    signature = model.signatures["default"]
    assert signature.inputs == (TensorSpec("image", "FP32", (-1, 1, 8, 8)),)
    assert signature.outputs == (
        TensorSpec("label", "INT64", (-1,)),
        TensorSpec("probabilities", "FP32", (-1, 10)),
    )
    assert (model.batchable, model.concurrent, model.user_code) == (True, True, False)


def test_a_tuples_outputs_are_numbered_unless_the_configuration_names_them(build):
    artefact = build(builders.torch_bounded).artefact
    assert load(artefact).signatures["default"].output_names == ("output_0", "output_1")
    names = (TensorSpec("digit", "INT64", (-1,)), TensorSpec("logits", "FP32", (-1, 3)))
    assert load(artefact, outputs=names).signatures["default"].output_names == ("digit", "logits")


@pytest.mark.parametrize("rows", [1, 2, 4, 5, 9])
def test_any_number_of_rows_runs_on_a_program_made_for_two_to_four(build, rows):
    inputs, expected = builders.torch_values(rows)
    answer = run(load(build(builders.torch_bounded).artefact), **inputs)
    np.testing.assert_allclose(answer["output_1"], expected["output_1"], atol=1e-5)


def test_a_fixed_batch_is_served_without_batching(build):
    model = load(build(builders.torch_fixed).artefact)
    assert not model.batchable
    assert model.signatures["default"].inputs[0].shape == (3, 4)


def test_a_first_dimension_that_is_not_the_rows_is_not_batched(tmp_path):
    import torch

    class Doubled(torch.nn.Module):
        def forward(self, x):
            return torch.cat([x, x])

    shapes = ({0: torch.export.Dim("n")},)
    model = load(export(tmp_path / "m.pt2", Doubled(), torch.zeros(2, 3), dynamic_shapes=shapes))
    assert not model.batchable
    assert run(model, x=np.ones((5, 3), np.float32))["output"].shape == (10, 3)


def test_keyword_arguments_are_inputs_by_name(tmp_path):
    import torch

    class Minus(torch.nn.Module):
        def forward(self, a, *, b):
            return a - b

    program = torch.export.export(Minus(), (torch.zeros(2),), {"b": torch.zeros(2)})
    torch.export.save(program, tmp_path / "m.pt2")
    answer = run(load(tmp_path / "m.pt2"), b=np.float32([1, 1]), a=np.float32([5, 7]))
    assert answer["output"].tolist() == [4, 6]


def test_read_only_inputs_are_borrowed_without_a_warning_or_a_change(digits):
    model = load(digits.artefact)
    image = digits.inputs["image"].copy()
    image.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(model, image=image)
    np.testing.assert_array_equal(image, digits.inputs["image"])


def test_a_program_that_writes_to_its_input_gets_a_copy(tmp_path):
    import torch

    class Clears(torch.nn.Module):
        def forward(self, x):
            return x.zero_() + 1

    model = load(export(tmp_path / "m.pt2", Clears(), torch.ones(2, 3)))
    x = np.full((2, 3), 5, np.float32)
    assert run(model, x=x)["output"].tolist() == [[1, 1, 1]] * 2
    assert x.tolist() == [[5, 5, 5]] * 2


def test_torchscript_says_exactly_what_to_write_when_its_inputs_are_unknown(build):
    with pytest.raises(LoadFailed, match=r'write input = \[{name = "x", datatype = "FP32", shape = \[-1, 4\]}\]'):
        load(build(builders.torch_script).artefact)


def test_torchscripts_outputs_are_seen_by_running_it(build):
    built = build(builders.torch_script)
    model = RUNTIME.load(built.config, built.artefact, "cpu")
    assert [spec.shape for spec in model.signatures["default"].outputs] == [(-1,), (-1, 3)]
    assert model.batchable


def test_a_state_dict_is_refused_with_the_way_out(tmp_path):
    import torch

    torch.save(builders.torch_module().state_dict(), tmp_path / "m.pt")
    for allow in (False, True):
        with pytest.raises(LoadFailed, match=r"weights without the program.*torch\.export\.save\("):
            load(tmp_path / "m.pt", allow_pickle=allow)


def test_a_pickled_module_needs_permission(tmp_path):
    import torch

    torch.save(torch.nn.Linear(4, 3), tmp_path / "m.pt")
    with pytest.raises(LoadFailed, match=r"pickled module.*--allow-pickle"):
        load(tmp_path / "m.pt")
    model = load(tmp_path / "m.pt", allow_pickle=True, inputs=builders.TORCH_CONFIG.inputs)
    assert run(model, x=np.ones((2, 4), np.float32))["output"].shape == (2, 3)
    assert model.user_code


@pytest.mark.parametrize("member", ["net/data/sample_inputs/model.pt", "net/data/weights/model_weights_config.json"])
def test_a_pickle_inside_an_exported_program_is_refused_unread(tmp_path, build, member):
    import zipfile

    marker = tmp_path / "ran"
    evil = b"cos\nmkdir\n(V" + str(marker).encode() + b"\ntR."
    source = zipfile.ZipFile(build(builders.torch_fixed).artefact)
    assert member in source.namelist()
    with zipfile.ZipFile(tmp_path / "evil.pt2", "w") as target:
        for name in source.namelist():
            content = source.read(name).replace(b'"use_pickle": false', b'"use_pickle": true')
            target.writestr(name, evil if name == member and name.endswith(".pt") else content)
    with pytest.raises(LoadFailed, match="pickled objects besides tensors"):
        load(tmp_path / "evil.pt2")
    assert not marker.exists()


def test_a_datatype_that_cannot_be_served_is_named(tmp_path):
    import torch

    artefact = export(tmp_path / "m.pt2", torch.nn.Identity(), torch.zeros(2, dtype=torch.bfloat16))
    with pytest.raises(LoadFailed, match=r"torch\.bfloat16, which cannot be served"):
        load(artefact)


def test_a_device_that_is_not_there_is_refused(digits):
    with pytest.raises(LoadFailed, match="device 'cuda:99' is not there"):
        RUNTIME.load(ModelConfig("m"), digits.artefact, "cuda:99")


def test_files_are_claimed_by_suffix():
    assert all(RUNTIME.claims(Path(f"m.{suffix}")) for suffix in ("pt2", "pt", "pth", "ts", "PT2"))
    assert not RUNTIME.claims(Path("m.bin"))
