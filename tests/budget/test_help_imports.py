"""What `inferd --help` may import: the cause of its start-up time, which does not vary with the machine's load."""

import json
import subprocess
import sys

import pytest

HEAVY = {"numpy", "fastapi", "starlette", "pydantic", "uvicorn", "uvloop", "onnxruntime", "sklearn", "torch", "rich"}
# Measured 117 with Python 3.11: the standard library, click and inferd.cli.
MAX_MODULES = 160

PROBE = """
import json, sys
sys.argv = ["inferd", *sys.argv[1:]]
from inferd.cli.main import main
code = main()
print("\\n" + json.dumps([code, sorted(sys.modules)]))
"""


def modules_after(*arguments: str) -> set[str]:
    command = [sys.executable, "-c", PROBE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert code == 0
    return set(modules)


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_no_framework_is_imported(flag):
    assert modules_after(flag).isdisjoint(HEAVY)


def test_few_modules_are_imported_for_the_help():
    modules = modules_after("--help")
    assert "click" in modules
    assert len(modules) <= MAX_MODULES, sorted(modules)
