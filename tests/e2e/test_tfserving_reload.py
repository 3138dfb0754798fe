"""A real server whose list of models is changed by TF Serving's ``HandleReloadConfigRequest``."""

import shutil

import grpc
import pytest
from serve_support import EXAMPLES, Process, free_port

from inferd.protocols.grpc.schema import message_class

PACKAGE = "tensorflow.serving"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reload")
    for version in ("1", "2"):
        shutil.copytree(EXAMPLES / "iris-onnx" / "1", folder / "models" / "iris" / version)
    shutil.copytree(EXAMPLES / "topic", folder / "models" / "topic")
    port = free_port()
    with Process(folder, "serve", folder / "models", "--grpc-port", port, "--model-control") as process:
        process.wait_ready()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel, folder


def reload(channel, *configs):
    request = message_class(f"{PACKAGE}.ReloadConfigRequest")()
    request.config.model_config_list.SetInParent()
    for config in configs:
        request.config.model_config_list.config.add(**config)
    method = channel.unary_unary(f"/{PACKAGE}.ModelService/HandleReloadConfigRequest")
    answer = message_class(f"{PACKAGE}.ReloadConfigResponse").FromString(
        method(request.SerializeToString(), timeout=60)
    )
    assert answer.status.error_code == 0


def states(channel, name):
    request = message_class(f"{PACKAGE}.GetModelStatusRequest")(model_spec={"name": name})
    method = channel.unary_unary(f"/{PACKAGE}.ModelService/GetModelStatus")
    body = method(request.SerializeToString(), timeout=20)
    answer = message_class(f"{PACKAGE}.GetModelStatusResponse").FromString(body)
    return {each.version for each in answer.model_version_status if each.state == 30}


def test_a_list_decides_models_versions_and_labels(served):
    channel, folder = served
    assert states(channel, "iris") == {2}
    reload(
        channel,
        {
            "name": "iris",
            "base_path": str(folder / "models" / "iris"),
            "model_version_policy": {"specific": {"versions": [1, 2]}},
            "version_labels": {"stable": 1},
        },
        {"name": "topic"},
    )
    assert states(channel, "iris") == {1, 2}
    reload(channel, {"name": "iris", "model_version_policy": {"latest": {"num_versions": 1}}})
    assert states(channel, "iris") == {2}
    assert states(channel, "topic") == set()


def test_a_list_cannot_bring_models_of_its_own(served):
    channel, _ = served
    for config in ({"name": "other"}, {"name": "iris", "base_path": "/elsewhere"}):
        with pytest.raises(grpc.RpcError) as refused:
            reload(channel, config)
        assert refused.value.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED)
    assert states(channel, "iris") == {2}
