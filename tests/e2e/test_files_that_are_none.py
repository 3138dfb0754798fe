"""What a repository may hold by mistake: each is a clear reason in the index and the log, and the others serve."""

import json
import os
import shutil
from pathlib import Path

import pytest
from serve_support import Process, gated_model

JSON = {"Content-Type": "application/json"}


def put(repository, model="m", version=1):
    folder = repository / model / str(version)
    folder.mkdir(parents=True)
    gated_model(folder).rename(folder / "model.py")
    return folder


def link_to_nowhere(path):
    path.symlink_to("/nowhere/at/all")


def link_to_an_error(path):
    """A file that is there and cannot be read, by nobody."""
    path.symlink_to("/proc/self/mem")


FILES = ("model.toml", "1/model.py", "1/golden.npz", "1/golden.json", "1/hooks.py", "1/manifest.json")
KINDS = [os.mkdir, os.mkfifo, link_to_nowhere]


@pytest.fixture
def repository(tmp_path):
    put(tmp_path / "models", "good")
    return tmp_path / "models"


@pytest.fixture
def serve(tmp_path, repository):
    return lambda *more: Process(tmp_path, "serve", repository, "--drain-timeout-s", "1", *more)


def describe(process, model="m"):
    return json.loads(process.ask("GET", f"/admin/models/{model}")[2])


def last(process, model="m"):
    """State and reason of the latest version."""
    version = describe(process, model)["versions"][-1]
    return version["state"], version.get("reason", "")


def answers(process, model):
    return process.predict([[1, 2]], f"/models/{model}/predict")[0] == 200


def test_a_file_that_is_none_is_told_and_nothing_passes_it_over(repository, serve):
    """Each in a model of its own, called for what stands in the place of what."""
    files = {}
    for name in FILES:
        for how in (*KINDS, link_to_an_error):
            model = f"{how.__name__}-{Path(name).name}"
            file = files[model] = put(repository, model).parent / name
            file.unlink(missing_ok=True)
            how(file)
    with serve() as process:
        process.wait_ready()
        for model, file in files.items():
            process.wait_for(lambda model=model: last(process, model)[0] in ("READY", "FAILED"))
            state, reason = last(process, model)
            assert state == "FAILED", model
            assert file.name in reason, model
            assert str(repository) not in reason
            assert f"{model} version 1 FAILED: {reason}" in process.output
        assert answers(process, "good")
        assert process.signal().exit_code(20) == 0


def test_a_configuration_that_breaks_while_it_serves_changes_nothing(repository, serve):
    models = {how.__name__: how for how in KINDS}
    for model in models:
        put(repository, model)
    with serve() as process:
        process.wait_ready()
        for model, how in models.items():
            how(repository / model / "model.toml")
            for path in (f"/admin/models/{model}/load", f"/admin/models/{model}/reload", "/admin/rescan"):
                assert process.ask("POST", path, "", JSON)[0] in (200, 202)
                assert "model.toml is no regular file" in describe(process, model)["problem"]
                assert last(process, model) == ("READY", "")
                assert answers(process, model)
            assert f"{model} goes on as it was" in process.output


def test_a_broken_version_does_not_hold_up_the_others_of_its_model(repository, serve):
    put(repository)
    with serve("--version-policy", "all") as process:
        process.wait_ready()
        (repository / "m" / "2").mkdir()
        put(repository, version=3)
        os.mkfifo(put(repository, version=4) / "manifest.json")
        link_to_nowhere(repository / "m" / "5")
        assert process.ask("POST", "/admin/models/m/load", "", JSON)[0] == 200
        versions = {each["version"]: each for each in describe(process)["versions"]}
        assert {number: each["state"] for number, each in versions.items()} == {
            1: "READY",
            2: "FAILED",
            3: "READY",
            4: "FAILED",
        }
        assert "it is empty" in versions[2]["reason"]
        assert versions[4]["reason"] == "4/manifest.json is no regular file; replace it or take it away"
        shutil.rmtree(repository / "m" / "1")
        shutil.rmtree(repository / "m" / "3")
        assert process.ask("POST", "/admin/models/m/load", "", JSON)[0] == 200
        assert answers(process, "good")


def test_names_that_no_model_can_have_are_made_plain(repository, serve):
    names = {"sp ace": "sp_ace", "line\nfeed\x1b[31m": "line_feed_31m", "a" * 200: "a" * 128, "ünï": "n_"}
    for name in names:
        put(repository, name)
    (repository / "good" / "two\x1b[31m\nlines").mkdir()
    with serve() as process:
        process.wait_ready()
        for name in names.values():
            assert answers(process, name)
        assert process.ask("POST", "/models/..%2f..%2fgood/predict", '{"instances": [[1, 2]]}', JSON)[0] == 400
