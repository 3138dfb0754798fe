import logging
from dataclasses import replace
from pathlib import Path

import pytest

from inferd.core.config import ModelConfig
from inferd.core.errors import ConfigError
from inferd.repository.desired import Look, by_policy, discover

CODE = "import numpy as np\n\n\ndef predict(x: np.ndarray) -> np.ndarray:\n    return x\n"


def make(root: Path, *files: str) -> Path:
    for name in files:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(CODE if name.endswith(".py") else "")
    return root


def find(*paths, policy="latest", allow_pickle=False, defaults=None):
    defaults = replace(defaults or ModelConfig(""), allow_pickle=allow_pickle)
    return discover([str(path) for path in paths], Look(defaults, by_policy(policy)))


def refusal(*paths, **options) -> str:
    with pytest.raises(ConfigError) as error:
        find(*paths, **options)
    return error.value.message


def test_a_single_file_is_version_1_named_by_its_stem(tmp_path: Path):
    make(tmp_path, "my model (2).onnx")
    (model,) = find(tmp_path / "my model (2).onnx")
    assert model.name == model.config.name == "my_model_2_"
    assert model.versions == {1: tmp_path / "my model (2).onnx"}


@pytest.mark.parametrize(
    ("path", "name"),
    [("{}/sentiment.py:Sentiment", "sentiment"), ("{}/sentiment.py", "sentiment"), ("os.path:join", "path")],
)
def test_code_is_named_by_its_file_or_module(tmp_path: Path, path, name):
    make(tmp_path, "sentiment.py")
    path = path.format(tmp_path)
    (model,) = find(path)
    assert model.name == name
    assert model.versions == {1: Path(path)}


def test_a_model_folder_serves_the_latest_version_by_number(tmp_path: Path):
    folder = make(tmp_path / "iris", "2/model.onnx", "10/model.onnx", "old/model.onnx", ".git/x")
    (model,) = find(folder)
    assert model.name == "iris"
    assert model.versions == {10: folder / "10" / "model.onnx"}
    assert model.skipped == ("old: not a version number",)


def test_the_policy_can_ask_for_all_versions_or_one(tmp_path: Path):
    folder = make(tmp_path / "iris", "1/model.onnx", "2/model.onnx", "3/model.onnx")
    assert list(find(folder, policy="all")[0].versions) == [1, 2, 3]
    assert list(find(folder, policy="2")[0].versions) == [2]
    assert "no such version folder" in refusal(folder, policy="4")


def test_a_repository_is_a_folder_whose_children_hold_version_folders(tmp_path: Path, caplog):
    make(tmp_path, "b/1/model.onnx", "a/1/model.py", "notes/read.txt", ".hidden/1/model.onnx", "README.md")
    with caplog.at_level(logging.WARNING):
        models = find(tmp_path)
    assert [model.name for model in models] == ["a", "b"]
    assert f"{tmp_path / 'notes'} is ignored: it holds no version folder, such as notes/1" in caplog.text


def test_a_broken_model_in_a_repository_keeps_its_reasons_and_the_others_are_found(tmp_path: Path):
    make(tmp_path, "good/1/model.onnx", "empty/1/notes.txt", "wrong/1/model.onnx", "two/1/a.onnx", "two/1/b.onnx")
    (tmp_path / "wrong" / "model.toml").write_text("[batchng]\n")
    found = {model.name: model for model in find(tmp_path)}
    assert found["good"].problems == {}
    assert found["wrong"].problems == {1: "wrong/model.toml:1: unknown key 'batchng'; did you mean 'batching'?"}
    assert found["two"].problems == {1: "two/1: several artefacts: a.onnx, b.onnx; keep one in a folder"}
    assert found["empty"].problems[1].startswith("empty/1: no file that a runtime (")
    assert found["empty"].problems[1].endswith("loads; only notes.txt")
    assert [name for name, model in found.items() if model.versions] == ["good"]


def test_a_broken_model_that_is_named_itself_is_refused(tmp_path: Path):
    make(tmp_path, "two/1/a.onnx", "two/1/b.onnx")
    assert "several artefacts: a.onnx, b.onnx" in refusal(tmp_path / "two")


def test_auxiliary_files_and_sibling_modules_are_no_artefacts(tmp_path: Path):
    folder = make(
        tmp_path / "m",
        "1/model.skops",
        "1/hooks.py",
        "1/warmup.npz",
        "1/golden.npz",
        "1/words.py",
        "1/README.md",
        "1/.x.onnx",
    )
    assert find(folder)[0].versions == {1: folder / "1" / "model.skops"}


def test_the_configured_runtime_picks_among_several_artefacts(tmp_path: Path):
    folder = make(tmp_path / "m", "1/model.onnx", "1/model.py")
    (folder / "model.toml").write_text('runtime = "python"\n')
    assert find(folder)[0].versions == {1: folder / "1" / "model.py"}


def test_a_named_runtime_is_trusted_with_a_file_of_any_name(tmp_path: Path):
    folder = make(tmp_path / "m", "1/weights.bin")
    (folder / "model.toml").write_text('runtime = "torch"\n')
    assert find(folder)[0].versions == {1: folder / "1" / "weights.bin"}
    make(folder, "1/other.bin")
    assert "no file that the torch runtime loads; only other.bin, weights.bin" in refusal(folder)


def test_a_version_folder_takes_name_number_and_configuration_from_its_place(tmp_path: Path):
    folder = make(tmp_path / "iris", "3/model.onnx")
    (folder / "model.toml").write_text('nan = "null"\n')
    (model,) = find(folder / "3")
    assert (model.name, model.config.nan) == ("iris", "null")
    assert model.versions == {3: folder / "3" / "model.onnx"}


def test_a_folder_with_one_artefact_is_one_version(tmp_path: Path):
    folder = make(tmp_path / "iris", "model.onnx", "labels.txt")
    (folder / "model.toml").write_text('name = "flowers"\n')
    (model,) = find(folder)
    assert (model.name, dict(model.versions)) == ("flowers", {1: folder / "model.onnx"})


@pytest.mark.parametrize("inner", ["artifacts/1/weights.bin", "2/weights.bin"])
def test_a_folder_that_is_an_artefact_is_no_repository_whatever_folders_it_has(tmp_path: Path, inner):
    folder = make(tmp_path / "forecast", "MLmodel", inner)
    (model,) = find(folder)
    assert (model.name, model.versions) == ("forecast", {1: folder})


def test_an_artefact_that_is_a_folder_may_be_a_version_too(tmp_path: Path):
    make(tmp_path / "forecast", "3/MLmodel", "3/artifacts/1/weights.bin")
    (model,) = find(tmp_path / "forecast")
    assert model.versions == {3: tmp_path / "forecast" / "3"}


def test_defaults_reach_each_model_and_its_model_toml_wins(tmp_path: Path):
    make(tmp_path, "a/1/model.onnx", "b/1/model.onnx")
    (tmp_path / "b" / "model.toml").write_text('nan = "string"\n')
    models = find(tmp_path, defaults=ModelConfig("", nan="null"), allow_pickle=True)
    assert [model.config.nan for model in models] == ["null", "string"]
    assert all(model.config.allow_pickle for model in models)


def test_two_models_of_one_name_are_refused_naming_both(tmp_path: Path):
    make(tmp_path, "x/iris.onnx", "y/iris.onnx")
    message = refusal(tmp_path / "x/iris.onnx", tmp_path / "y/iris.onnx")
    assert f"'iris': {tmp_path}/x/iris.onnx and {tmp_path}/y/iris.onnx" in message


def test_a_path_that_does_not_exist_suggests_its_neighbour(tmp_path: Path):
    make(tmp_path, "iris.onnx", "code.py")
    assert refusal(tmp_path / "iris.onxn") == (
        f"{tmp_path}/iris.onxn does not exist; did you mean {tmp_path}/iris.onnx?"
    )
    assert "did you mean" not in refusal(tmp_path / "zzz")
    assert refusal(f"{tmp_path}/cod.py:Model").startswith(f"{tmp_path}/cod.py does not exist")


def test_a_file_that_no_runtime_loads_is_refused_with_the_runtimes_there_are(tmp_path: Path):
    make(tmp_path, "notes.txt")
    message = refusal(tmp_path / "notes.txt")
    assert message.startswith(f"{tmp_path}/notes.txt: not a file that a runtime (")
    assert "onnx: .onnx, .ort" in message
    assert "sklearn: .skops" in message


def test_a_version_whose_folder_is_no_number_is_pointed_at(tmp_path: Path):
    make(tmp_path / "iris", "docs/notes.txt", "v1/model.onnx")
    folder = tmp_path / "iris"
    assert refusal(folder) == f"{folder}: v1 is not a number, as the name of a version's folder is, such as {folder}/1"


def test_several_artefacts_in_a_folder_can_be_served_each_on_its_own(tmp_path: Path):
    make(tmp_path, "a.onnx", "b.onnx")
    *_, paths = refusal(tmp_path).partition("or serve each on its own: inferd serve ")
    assert [find(path)[0].name for path in paths.split()] == ["a", "b"]


def test_a_folder_without_any_model_says_what_was_expected(tmp_path: Path):
    make(tmp_path, "sub/notes.txt")
    assert refusal(tmp_path).endswith("and it holds no version folder (1/, 2/) and no model folder")


def test_a_model_folder_that_is_a_link_is_named_by_the_link(tmp_path: Path):
    make(tmp_path, "store/ab12cd/1/model.onnx", "models/plain/1/model.onnx")
    (tmp_path / "models" / "churn").symlink_to(tmp_path / "store" / "ab12cd")
    (tmp_path / "models" / "loop").symlink_to(tmp_path / "models" / "loop")
    assert [model.name for model in find(tmp_path / "models")] == ["churn", "plain"]
