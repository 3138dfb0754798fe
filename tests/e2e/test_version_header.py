"""A version or label by header, and the artefact's digest with an answer, through each protocol."""

import json
import shutil

import grpc
import numpy as np
import pytest
from serve_support import EXAMPLES, Process, free_port

from inferd.protocols.grpc.schema import message_class

ARTEFACT = next((EXAMPLES / "iris-onnx" / "1").glob("*.onnx")).name
ROW = [5.1, 3.5, 1.4, 0.2]
V2 = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ROW}]}
ROUTES = {
    "/predict": {"instances": [ROW]},
    "/models/iris/predict": {"instances": [ROW]},
    "/v2/models/iris/infer": V2,
    "/v1/models/iris:predict": {"instances": [ROW]},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("versions")
    for version in ("1", "2"):
        shutil.copytree(EXAMPLES / "iris-onnx" / "1", folder / "models" / "iris" / version)
    with (folder / "models" / "iris" / "2" / ARTEFACT).open("ab") as file:
        file.write(b"\x32\x01x")  # a doc_string: the same model, another digest
    port = free_port()
    flags = ("--version-policy", "all", "--grpc-port", port)
    with Process(folder, "serve", folder / "models", *flags) as process:
        process.wait_ready()
        process.grpc_port = port
        body = json.dumps({"version": 1})
        headers = {"Content-Type": "application/json"}
        assert process.ask("PUT", "/admin/models/iris/labels/stable", body, headers)[0] == 200
        yield process


def ask(served, path, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return served.ask("POST", path, json.dumps(ROUTES[path]), {"Content-Type": "application/json", **named})


@pytest.mark.parametrize("path", ROUTES)
def test_a_header_chooses_a_version_or_a_label(served, path):
    for wanted, answering in ((None, "2"), ("1", "1"), ("2", "2"), ("stable", "1")):
        headers = {"Inferd_Model_Version": wanted} if wanted else {}
        status, answer, _ = ask(served, path, **headers)
        assert (status, answer["inferd-model-version"]) == (200, answering)


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("unknown", ["7", "canary", "-1", "\xe9", "9" * 40])
def test_a_version_that_is_not_there_is_not_found(served, path, unknown):
    assert ask(served, path, Inferd_Model_Version=unknown)[0] == 404


def test_a_header_may_repeat_the_path_but_not_contradict_it(served):
    path, headers = "/models/iris/versions/1/predict", {"Content-Type": "application/json"}
    body = json.dumps({"instances": [ROW]})
    assert served.ask("POST", path, body, {**headers, "Inferd-Model-Version": "1"})[0] == 200
    status, _, answer = served.ask("POST", path, body, {**headers, "Inferd-Model-Version": "2"})
    assert status == 422
    assert "the path asks for version 1" in json.loads(answer)["detail"]


@pytest.mark.parametrize("path", ROUTES)
def test_the_digest_comes_with_the_answer_when_it_is_asked_for(served, path):
    assert "inferd-model-digest" not in ask(served, path)[1]
    for version in ("1", "2"):
        info = json.loads(served.ask("GET", f"/models/iris/versions/{version}/info")[2])
        answer = ask(served, path, Inferd_Model_Version=version, Inferd_Model_Digest="1")[1]
        assert answer["inferd-model-digest"] == info["digest"]
        assert info["digest"].startswith("sha256:")


def test_grpc_has_both_as_metadata(served):
    request = message_class("inference.ModelInferRequest")(
        model_name="iris",
        inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 4]}],
        raw_input_contents=[np.array(ROW, np.float32).tobytes()],
    )
    with grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        metadata = (("inferd-model-version", "stable"), ("inferd-model-digest", "1"))
        body, call = method.with_call(request.SerializeToString(), metadata=metadata, timeout=20)
    assert message_class("inference.ModelInferResponse").FromString(body).model_version == "1"
    found = dict(call.trailing_metadata())
    info = json.loads(served.ask("GET", "/models/iris/versions/1/info")[2])
    assert found["inferd-model-digest"] == info["digest"]
