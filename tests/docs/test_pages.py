"""The documentation is run: blocks in order, links followed, generated pages compared."""

import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
from serve_support import EXAMPLES, KSERVE_PYTHON, Process, free_port  # noqa: E402

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CLIENTS = {"": sys.executable, "kserve": KSERVE_PYTHON}
"""What runs the Python blocks of a protocol's page, by what stands behind "python" there."""
COMMAND = f"{shlex.quote(sys.executable)} -c 'from inferd.cli.main import main; raise SystemExit(main())'"


def blocks(page):
    return [(kind, info.strip(), text) for kind, info, text in BLOCK.findall((ROOT / page).read_text())]


def shell(text, folder):
    """Run shell lines with this checkout's inferd; fail with their output. A curl must get a prediction or a page."""
    script = f'set -euo pipefail\ninferd() {{ {COMMAND} "$@"; }}\n{text}'
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_readme_answers_what_it_says():
    bash = [text for kind, _, text in blocks("README.md") if kind == "bash"]
    assert bash[0].startswith("make serve")
    assert bash[2].startswith("make test")
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^serve:", makefile, re.MULTILINE)
    assert re.search(r"^test:", makefile, re.MULTILINE)
    (answer,) = [text for kind, _, text in blocks("README.md") if kind == "json"]
    port = free_port()
    with Process(ROOT, "serve", EXAMPLES / "iris-onnx", EXAMPLES / "topic", port=port) as process:
        process.wait_ready()
        process.log.unlink()
        assert shell(bash[1].replace("curl ", "curl -s ", 1).replace(":8000", f":{port}"), ROOT) == answer.strip()


def test_the_readmes_script_serves_until_it_is_told_to_stop(tmp_path):
    (script,) = [text for kind, _, text in blocks("README.md") if kind == "python"]
    port = free_port()
    artefact = EXAMPLES / "iris-onnx" / "1" / "iris.onnx"
    (tmp_path / "script.py").write_text(f"model = {str(artefact)!r}\n{script.replace('8000', str(port))}")
    with Process(tmp_path, "script.py", port=port, command=[sys.executable]) as process:
        assert process.wait_ready().predict([[5.1, 3.5, 1.4, 0.2]])[0] == 200
        assert process.signal().exit_code() == 0


@pytest.mark.parametrize(
    "page",
    [
        "docs/tutorial.md",
        "docs/lifecycle.md",
        "docs/capture.md",
        "docs/experiments/tutorial.md",
        "docs/experiments/live.md",
        "docs/experiments/ramp.md",
        "docs/experiments/shadow.md",
        "docs/experiments/bandit.md",
    ],
)
def test_a_tutorial_runs_from_the_first_block_to_the_last(tmp_path, monkeypatch, page):
    monkeypatch.chdir(tmp_path)
    port = free_port()
    monkeypatch.setenv("INFERD_URL", f"http://127.0.0.1:{port}")  # the pages' port is the one that commands ask
    names = {}
    server = None
    try:
        for kind, info, text in blocks(page):
            text = text.replace(":8000", f":{port}").replace("--port 8000", f"--port {port}")
            if info.startswith("file="):
                Path(info.removeprefix("file=")).write_text(text)
            elif kind == "python":
                exec(compile(text, "tutorial", "exec"), names)
            elif info == "serve":
                if server is not None:
                    assert server.signal().exit_code() == 0
                server = Process(tmp_path, *shlex.split(text)[1:], port=port).wait_ready()
            elif kind == "bash":
                output = shell(text, tmp_path)
                assert "<html" not in output
            elif kind == "json":
                assert list(eval(text)["predictions"][0]) == ["label", "probabilities"]
    finally:
        if server is not None:
            server.__exit__()


def test_the_python_models_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for kind, info, text in blocks("docs/python-models.md"):
        assert kind == "python"
        if info.startswith("file="):
            Path(info.removeprefix("file=")).write_text(text)
        else:
            exec(compile(text, "python-models", "exec"), names)


def with_ports(text, ports):
    for usual, port in ports.items():
        text = re.sub(rf"\b{usual}\b", str(port), text)
    return text


@pytest.mark.parametrize("page", sorted((ROOT / "docs/protocols").glob("*.md")), ids=lambda page: page.stem)
def test_each_protocols_page_runs_with_its_clients_in_a_process_of_their_own(page, tmp_path):
    ports = {usual: free_port() for usual in (8000, 8001, 8080, 8081, 5000)}
    found = [(kind, info, with_ports(text, ports)) for kind, info, text in blocks(page.relative_to(ROOT))]
    (serve,) = [text for _, info, text in found if info == "serve"]
    for _, info, text in found:
        if info.startswith("file="):
            (tmp_path / info.removeprefix("file=")).write_text(text)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    with Process(tmp_path, *shlex.split(serve, comments=True)[1:], port=ports[8000]) as process:
        process.wait_ready()
        for name, python in CLIENTS.items():
            code = "".join(text for kind, info, text in found if (kind, info) == ("python", name))
            done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
        for kind, info, text in found:
            if kind == "bash" and info != "serve":
                shell(text, tmp_path)


def test_every_name_on_the_hot_path_page_exists():
    page = (ROOT / "docs/hot-path.md").read_text()
    named = re.findall(r"`((?:server|protocols|serving|execution|core|telemetry)/[\w/]+\.py)` `([\w.]+)`", page)
    assert len(named) >= 15
    for file, name in named:
        source = (ROOT / "src/inferd" / file).read_text()
        for part in name.split("."):
            assert re.search(rf"(class|def) {part}\b", source), (file, name)
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    for test in re.findall(r"`(test_\w+)`", page):
        assert f"def {test}(" in tests, test
    for file in re.findall(r"`(tests/[\w/]+\.py)`", page):
        assert (ROOT / file).exists(), file


def test_the_hot_path_page_states_the_budget():
    budget = (ROOT / "tests/budget/test_calls.py").read_text()
    page = (ROOT / "docs/hot-path.md").read_text()
    first, repeated = (re.search(rf"{name} = (\d+)", budget)[1] for name in ("FIRST_REQUEST", "REPEATED_HEAD"))
    assert f"{first} calls" in page
    assert f"{repeated} for one like the last" in page


def test_the_errors_page_is_what_the_code_says():
    script = ROOT / "scripts" / "write_errors_page.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stdout


def test_every_entry_point_group_is_documented():
    pages = "".join(page.read_text() for page in PAGES)
    for group in re.findall(r'entry-points\."(inferd\.\w+)"', (ROOT / "pyproject.toml").read_text()):
        assert group in pages, group


def test_the_examples_of_the_documentation_are_python():
    for page in PAGES:
        for kind, _, text in BLOCK.findall(page.read_text()):
            if kind == "python":
                compile(textwrap.dedent(text), str(page), "exec")
