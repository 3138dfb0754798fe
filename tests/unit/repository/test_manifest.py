"""A sealed version is served as it was made, or not at all."""

import json
import sys

import pytest

from inferd.cli.main import main
from inferd.core.errors import LoadFailed
from inferd.repository.manifest import check_manifest, write_manifest
from inferd.testing import Client

CODE = """
import numpy as np

class Model:
    inputs = {"x": "FP32[-1, 1]"}
    outputs = {"y": "FP32[-1, 1]"}
    batchable = True

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x
"""


@pytest.fixture
def version(tmp_path):
    folder = tmp_path / "m" / "1"
    (folder / "data").mkdir(parents=True)
    (folder / "model.py").write_text(CODE)
    (folder / "data" / "weights.bin").write_bytes(bytes(100))
    return folder


def test_a_sealed_version_is_served(version):
    assert write_manifest(version) == 2
    with Client(version.parent) as client:
        assert client.predict([[1]]).json == {"predictions": [[1.0]]}
        assert client.get("/model/info").json["digest"].startswith("sha256:")
    check_manifest(version / "model.py")


def flip(version):
    (version / "data" / "weights.bin").write_bytes(bytes(99) + b"\1")


def remove(version):
    (version / "data" / "weights.bin").unlink()


def add(version):
    (version / "hooks.py").write_text("")


def spoil(version):
    (version / "manifest.json").write_text("{}")


def nest(version):
    (version / "manifest.json").write_text("[" * 100_000)


def climb(version):
    """Name a file outside of the version."""
    manifest = json.loads((version / "manifest.json").read_text())
    manifest["files"]["../../../etc/passwd"] = "0" * 64
    (version / "manifest.json").write_text(json.dumps(manifest))


def link(version):
    (version / "extra.bin").symlink_to("/nowhere")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (flip, "data/weights.bin was changed"),
        (remove, "data/weights.bin is missing"),
        (add, "hooks.py is not in manifest.json"),
        (spoil, "seal the version again"),
        (nest, "seal the version again"),
        (climb, "../../../etc/passwd is missing"),
        (link, "extra.bin is not in manifest.json"),
    ],
)
def test_one_changed_byte_keeps_a_version_from_being_served(version, change, words):
    write_manifest(version)
    change(version)
    with pytest.raises(LoadFailed, match=words):
        Client(version.parent)


def test_sealing_again_takes_the_files_as_they_are(version, monkeypatch, capsys):
    write_manifest(version)
    flip(version)
    monkeypatch.setattr(sys, "argv", ["inferd", "seal", str(version)])
    assert main() == 0
    assert "2 files sealed" in capsys.readouterr().out
    check_manifest(version / "model.py")


def test_only_versions_are_sealed(version, monkeypatch, capsys):
    model = version.parent
    for folder in (model, model.parent):
        monkeypatch.setattr(sys, "argv", ["inferd", "seal", str(folder)])
        assert main() == 2
        assert f"name the folders of versions: {version}" in capsys.readouterr().err
        assert not (folder / "manifest.json").exists()


def test_examples_written_into_a_sealed_version_ask_for_a_new_seal(version, monkeypatch, capsys):
    rows, golden = version.parent / "rows.json", version / "golden.npz"
    rows.write_text("[[1], [2]]")
    argv = ["inferd", "golden", str(version), str(rows), "-o", str(golden)]
    monkeypatch.setattr(sys, "argv", argv)
    assert main() == 0
    assert capsys.readouterr().err == ""
    write_manifest(version)
    golden.unlink()
    write_manifest(version)
    assert main() == 0
    assert f"run inferd seal {version} again" in capsys.readouterr().err


def test_what_cannot_be_sealed_is_told(tmp_path, monkeypatch, capsys):
    for folder in (tmp_path / "nowhere", tmp_path):
        monkeypatch.setattr(sys, "argv", ["inferd", "seal", str(folder)])
        assert main() == 2
    assert "no folder" in capsys.readouterr().err
