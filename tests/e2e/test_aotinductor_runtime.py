"""An AOTInductor package, really compiled; half a minute, so not part of the fast gate."""

import pytest

import model_builders as builders
from inferd.core.config import ModelConfig
from inferd.core.errors import LoadFailed
from inferd.runtimes.torch import RUNTIME
from inferd.testing.check_runtime import check_runtime


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    import torch

    path = tmp_path_factory.mktemp("compiled") / "net.pt2"
    shapes = ({0: torch.export.Dim("batch", max=64)},)
    program = torch.export.export(builders.torch_module(), (torch.zeros(2, 4),), dynamic_shapes=shapes)
    torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    return path


def test_a_compiled_package_keeps_the_contract(package):
    check_runtime(RUNTIME, package, *builders.torch_values(), config=builders.TORCH_CONFIG, framework="torch")


def test_a_compiled_package_asks_for_its_inputs(package):
    with pytest.raises(LoadFailed, match="does not tell its inputs"):
        RUNTIME.load(ModelConfig("m"), package, "cpu")
