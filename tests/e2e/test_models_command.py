"""``inferd models`` against a real server, and against what is none."""

import http.server
import json
import shutil
import subprocess
import threading
from hashlib import sha256

import pytest
from serve_support import CLEAN, INFERD, Process, gated_model

BROKEN = 'raise RuntimeError("no such weights \\x1b[31m\\r\\n and no other")'
REASON = r"model.py, line 1: RuntimeError: no such weights \x1b[31m and no other"


@pytest.fixture
def repository(tmp_path):
    for version in (1, 2):
        folder = tmp_path / "models" / "m" / str(version)
        folder.mkdir(parents=True)
        gated_model(folder).rename(folder / "model.py")
    return tmp_path / "models"


def test_a_version_that_fails_is_exit_code_1_with_its_reason(tmp_path, repository):
    with Process(tmp_path, "serve", repository) as process:
        process.wait_ready()
        assert process.command("models", "load", "m")[0] == 0
        (repository / "m" / "3").mkdir()
        (repository / "m" / "3" / "model.py").write_text(BROKEN)
        for arguments in (("load", "m"), ("load", "m", "--version", "3"), ("load", "m", "--json"), ("reload", "m")):
            code, out, error = process.command("models", *arguments)
            assert code == 1
            assert "READY" in out
            assert error == f"inferd: m version 3 FAILED: {REASON}\n"
        assert process.command("models", "policy", "m", "all")[0] == 1
        assert process.command("models", "load", "m", "--no-wait")[0] == 0
        assert process.command("models", "load", "m", "--version", "1")[0] == 0
        assert process.command("models", "unload", "m", "--version", "3")[0] == 0
        assert "\x1b" not in process.log.read_text()


def test_a_label_whose_version_is_gone_is_told_and_survives_a_restart(tmp_path, repository):
    with Process(tmp_path, "serve", repository) as process:
        process.wait_ready()
        assert process.command("models", "label", "m", "stable", "2")[0] == 0
        shutil.rmtree(repository / "m" / "2")
        assert process.command("models", "load", "m")[0] == 0
        assert "the label 'stable' of m points at version 2, which is not there" in process.output
        assert process.signal().exit_code() == 0
    with Process(tmp_path, "serve", repository) as process:
        process.wait_ready()
        assert "the label 'stable' of m points at version 2, which is not there" in process.output
        assert process.command("models", "list")[1] == "m  policy latest\n  1  READY\n  2  is not served  stable\n"
        status, _, body = process.predict([[1, 2]], "/models/m/versions/stable/predict")
        assert status == 404
        assert (
            "the label 'stable' of 'm' points at version 2, which is not served; there are: 1"
            in json.loads(body)["detail"]
        )
        assert process.predict([[1, 2]])[0] == 200
        assert "label stable lost" in process.command("models", "history", "m")[1]
        assert process.command("models", "label", "m", "stable", "1")[0] == 0
        assert process.predict([[1, 2]], "/models/m/versions/stable/predict")[0] == 200


def test_the_history_says_whose_key_it_was_over_a_restart_and_others_are_refused(tmp_path, repository):
    secrets = {"alice": "admin", "bob": "admin", "carol": "inference"}
    entries = [f"{name}:{scope}:{sha256(name.encode()).hexdigest()}" for name, scope in secrets.items()]
    env = {"INFERD_API_KEYS": ",".join(entries)}
    with Process(tmp_path, "serve", repository, env=env) as process:
        process.wait_ready()
        for name, policy in (("alice", "all"), ("bob", "latest")):
            assert process.command("models", "policy", "m", policy, "--api-key", name)[0] == 0
        for key, words in ((), "--api-key"), (("nobody",), "INFERD_API_KEY"), (("carol",), "the scope 'admin'"):
            code, out, error = process.command("models", "policy", "m", "all", *(f"--api-key={each}" for each in key))
            assert (code, out, error.count("\n")) == (2, "", 1)
            assert words in error
        process.signal().exit_code()
    with Process(tmp_path, "serve", repository, env=env) as process:
        process.wait_ready()
        code, out, _ = process.command("models", "history", "m", "--api-key", "alice", "--json")
        by = [(each["event"], each["who"]) for each in json.loads(out)["history"] if each["event"].startswith("policy")]
        assert by == [("policy latest", "bob"), ("policy all", "alice")]


@pytest.mark.parametrize("arguments", [("load", "no such model"), ("load", "x/../m"), ("label", "m", "a b", "1")])
def test_odd_names_reach_the_server_and_are_refused_there(tmp_path, repository, arguments):
    with Process(tmp_path, "serve", repository) as process:
        process.wait_ready()
        code, _, error = process.command("models", *arguments)
        assert code == 2
        assert error.count("\n") == 1
        assert "no answer" not in error


def test_what_is_no_server_of_inferds_is_one_sentence(tmp_path):
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = {"/list": b"[1]", "/html": b"<html>"}.get(
                self.path.partition("/admin")[0], b'{"detail": "Not Found"}'
            )
            self.send_response(404 if body.startswith(b'{"d') else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_port}"
        for where, words in (
            (f"{url}/list", "does not answer as an inferd server does"),
            (f"{url}/html", "is no address of an inferd server"),
            (f"{url}/old", "answered 404: Not Found"),
            ("http://127.0.0.1:1", "is the server running? Name it with --url"),
            ("nonsense", "is no address of an inferd server"),
        ):
            for command in (("list",), ("load", "m"), ("history", "m")):
                done = subprocess.run(
                    [*INFERD, "models", *command, "--url", where], capture_output=True, text=True, env=CLEAN, timeout=60
                )
                assert done.returncode == 2
                assert words in done.stderr
                assert done.stderr.count("\n") == 1
        other.shutdown()
