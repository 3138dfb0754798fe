import re
import shutil
import tomllib

from inferd.core.config import ModelConfig
from inferd.repository.desired import Look, by_policy, discover
from inferd.repository.model_toml import apply, read_model_toml


def test_inspect_prints_a_model_toml_that_gives_the_same_back(inferd, models, tmp_path):
    code, first, stderr = inferd("inspect", models / "iris")
    assert code == 0, stderr
    values = tomllib.loads(first)
    assert (values["name"], values["runtime"], values["batchable"]) == ("iris", "onnx", True)
    assert values["input"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 4]}]
    assert [tensor["name"] for tensor in values["output"]] == ["label", "probabilities"]

    folder = tmp_path / "flowers"
    shutil.copytree(models / "iris", folder)
    (folder / "model.toml").write_text(first)
    code, second, stderr = inferd("inspect", folder)
    assert code == 0, stderr
    assert tomllib.loads(second) == values
    (model,) = discover([str(folder)], Look(ModelConfig(""), by_policy("all")))
    assert model.config == apply(ModelConfig(""), read_model_toml(folder / "model.toml"))


def test_inspect_of_a_repository_of_several_models_asks_for_one(inferd, models, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(models / "iris", tmp_path / name)
    code, stdout, stderr = inferd("inspect", tmp_path)
    assert (code, stdout) == (2, "")
    assert "holds several models: a, b; name one of them" in stderr


def test_check_passes_models_that_work(inferd, models):
    code, stdout, stderr = inferd("check", models)
    assert code == 0, stderr
    assert stdout.splitlines()[-1].split()[:4] == ["iris", "1", "onnx", "cpu"]
    assert stdout.split()[-1] == "ok"


def test_check_fails_when_one_model_does_and_still_checks_the_others(inferd, models, tmp_path):
    shutil.copytree(models / "iris", tmp_path / "good")
    for name in ("broken", "empty", "wrong"):
        (tmp_path / name / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "model.onnx").write_bytes(b"not a model")
    shutil.copy(models / "iris" / "1" / "model.onnx", tmp_path / "wrong" / "1")
    (tmp_path / "wrong" / "model.toml").write_text("[batchng]\n")
    code, stdout, stderr = inferd("check", tmp_path)
    assert code == 1
    results = {line.split()[0]: line.split()[-1] for line in stdout.splitlines()[1:]}
    assert results == {"good": "ok", "broken": "FAILED", "empty": "FAILED", "wrong": "FAILED"}
    assert "broken version 1: " in stderr
    assert "wrong version 1: wrong/model.toml:1: unknown key 'batchng'" in stderr


def test_a_file_that_needs_a_model_toml_is_told_how_to_get_one(inferd, tmp_path):
    import skops.io
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(n_estimators=2, random_state=0).fit([[0.0], [1.0]], [0, 1])
    skops.io.dump(forest, tmp_path / "forest.skops")
    code, _, stderr = inferd("check", tmp_path / "forest.skops")
    assert code == 1
    assert "put both into a folder, and serve the folder" in stderr
    line = re.search(r"set (options\.trusted = \[.*?\]) in model\.toml", stderr)[1]
    (tmp_path / "model.toml").write_text(line)
    assert inferd("check", tmp_path)[0] == 0


def test_a_program_that_does_not_tell_its_inputs_is_served_once_a_model_toml_does(inferd, tmp_path):
    import torch

    torch.jit.script(torch.nn.Linear(4, 2)).save(tmp_path / "linear.ts")
    code, _, stderr = inferd("check", tmp_path / "linear.ts")
    assert code == 1
    assert "put both into a folder, and serve the folder" in stderr
    (tmp_path / "model.toml").write_text(re.search(r"write (input = \[.*\]), with the", stderr)[1])
    code, _, stderr = inferd("check", tmp_path)
    assert code == 0, stderr


def test_check_holds_the_answer_against_the_signature(inferd, tmp_path):
    (tmp_path / "liar.py").write_text(
        "import numpy as np\n\n\nclass Liar:\n    inputs = {'x': 'FP32[-1, 2]'}\n    outputs = {'y': 'FP32[-1, 2]'}\n\n"
        "    def predict(self, x):\n        return x[:, :1]\n"
    )
    code, _, stderr = inferd("check", f"{tmp_path}/liar.py:Liar")
    assert code == 1
    assert "liar version 1: " in stderr


def test_settings_from_the_environment_reach_the_commands_that_do_not_serve(inferd, models, monkeypatch):
    monkeypatch.setenv("INFERD_MAX_BATCH_SIZE", "7")
    _, stdout, _ = inferd("inspect", models / "iris")
    assert tomllib.loads(stdout)["batching"]["max_batch_size"] == 7
