"""A version that fails its gate stays out, on a real server and in ``inferd check``."""

import json
import shutil

import numpy as np
import pytest
from serve_support import EXAMPLES, Process


@pytest.fixture
def repository(tmp_path):
    for version in ("1", "2"):
        shutil.copytree(EXAMPLES / "iris-onnx" / "1", tmp_path / "models" / "iris" / version)
    golden = tmp_path / "models" / "iris" / "2" / "golden.npz"
    with np.load(golden) as archive:
        arrays = dict(archive)
    arrays["output.label"][0] = b"tulip"
    np.savez(golden, **arrays)
    return tmp_path / "models"


def run(folder, *args):
    process = Process(folder, *args)
    code = process.process.wait(60)
    return code, process.log.read_text()


def test_the_old_version_serves_and_the_index_says_why_the_new_one_does_not(tmp_path, repository):
    shutil.move(repository / "iris" / "2", tmp_path / "2")
    with Process(tmp_path, "serve", repository) as process:
        process.wait_ready()
        shutil.move(tmp_path / "2", repository / "iris" / "2")
        assert process.ask("POST", "/admin/models/iris/load", "", {"Content-Type": "application/json"})[0] == 200
        versions = json.loads(process.ask("GET", "/admin/models/iris")[2])["versions"]
        states = {each["version"]: (each["state"], each.get("reason", "")) for each in versions}
        assert states[1] == ("READY", "")
        assert states[2][0] == "FAILED"
        assert "output 'label' differs in 1 of" in states[2][1]
        assert "expected 'tulip'" in states[2][1]


def test_check_refuses_it_with_the_same_words(tmp_path, repository):
    code, output = run(tmp_path, "check", repository, "--version-policy", "all")
    assert code == 1
    assert "iris version 2: gate: golden.npz: output 'label' differs in 1 of" in output


def test_check_compares_the_signatures_of_versions_that_follow_each_other(tmp_path, repository):
    (repository / "iris" / "model.toml").write_text('[gate]\nsignature = "compatible"\n')
    shutil.rmtree(repository / "iris" / "2")
    shutil.copytree(EXAMPLES / "topic" / "1", repository / "iris" / "2")
    code, output = run(tmp_path, "check", repository, "--version-policy", "all")
    assert code == 1
    assert "input 'x' is gone" in output


def test_golden_examples_are_written_and_hold(tmp_path, repository):
    (tmp_path / "rows.json").write_text("[[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]")
    target = repository / "iris" / "2" / "golden.npz"
    target.unlink()
    code, output = run(tmp_path, "golden", repository / "iris", "rows.json", "-o", target)
    assert (code, output.strip()) == (0, f"wrote {target}: 2 rows")
    assert run(tmp_path, "check", repository)[0] == 0
    code, output = run(tmp_path, "golden", repository / "iris", "rows.json", "-o", "other.npz")
    assert code == 2
    assert "golden.npz" in output
