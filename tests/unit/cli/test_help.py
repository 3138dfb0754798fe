import json
import subprocess
import sys

import pytest

from inferd.cli.main import main
from inferd.server.settings import SCHEMA, flag_name

LOOK = """
import json, sys
from inferd.cli.main import main
sys.argv = ["inferd", *sys.argv[1:]]
code = main()
print("\\n" + json.dumps([code, sorted(name for name in sys.modules if "." not in name)]))
"""
HEAVY = {"numpy", "rich", "fastapi", "starlette", "uvicorn", "pydantic", "orjson", "prometheus_client", "onnxruntime"}
HEAVY |= {"torch", "sklearn", "skops", "grpc", "asyncio", "uvloop", "httptools"}


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["inferd", *arguments])
    return main()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["serve", "--help"], ["predict", "--help"], ["--version"], ["config"]]
)
def test_help_imports_no_framework(arguments, tmp_path):
    done = subprocess.run([sys.executable, "-c", LOOK, *arguments], capture_output=True, text=True, cwd=tmp_path)
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    assert "click" in modules
    assert HEAVY.isdisjoint(modules)


@pytest.mark.parametrize(
    "command", [["serve"], ["inspect"], ["check"], ["predict"], ["config"], ["keys", "new"], ["doctor"]]
)
def test_the_help_of_each_command_has_examples(monkeypatch, capsys, command):
    assert run(monkeypatch, *command, "--help") == 0
    text = capsys.readouterr().out
    assert f"Examples:\n    inferd {' '.join(command)}" in text


def test_each_setting_is_a_flag_of_serve(monkeypatch, capsys):
    assert run(monkeypatch, "serve", "--help") == 0
    text = capsys.readouterr().out
    for name in SCHEMA:
        assert flag_name(name) in text


def test_a_misspelt_command_is_refused_with_a_suggestion(monkeypatch, capsys):
    assert run(monkeypatch, "sevre") == 2
    assert "no command 'sevre'; did you mean 'serve'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serve"], "name at least one PATH"),
        (["serve", "x.onnx", "--port", "80x"], "inferd: --port takes a whole number, got '80x'"),
        (["serve", "nowhere.onnx"], "inferd: nowhere.onnx does not exist"),
        (["serve", "x.onnx", "--config", "nowhere.toml"], "inferd: nowhere.toml: cannot be read"),
        (["inspect", "nowhere.onnx"], "inferd: nowhere.onnx does not exist"),
        (["check", "nowhere.onnx"], "inferd: nowhere.onnx does not exist"),
        (["models", "list", "--url", "here:8133"], "address of an inferd server; write http://here:8133"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(monkeypatch, capsys, tmp_path, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.strip().splitlines()[-1].count(says) == 1
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_config_prints_each_value_and_its_origin(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INFERD_LOG_FORMAT", "json")
    (tmp_path / "inferd.toml").write_text("\nport = 9000\n")
    assert run(monkeypatch, "config") == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == list(SCHEMA)
    assert lines["port"] == ["9000", "file", "inferd.toml:2"]
    assert lines["log_format"] == ["json", "environment", "INFERD_LOG_FORMAT"]
    assert lines["host"] == ["127.0.0.1", "default"]


def test_doctor_lists_core_extras_and_plugins(monkeypatch, capsys):
    run(monkeypatch, "doctor")
    text = capsys.readouterr().out
    assert "  numpy " in text
    assert "  onnx: inferd.runtimes.onnx:RUNTIME" in text
    assert "  file: inferd.sources.local:SOURCE" in text
