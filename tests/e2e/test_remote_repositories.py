"""Repositories on object stores and on a web server: real processes or threads that speak HTTP."""

import functools
import http.server
import json
import re
import shutil
import threading
import time
import zlib
from pathlib import Path

import fsspec
import numpy as np
import pytest
from object_stores import PIECE, STORES, Relay
from serve_support import EXAMPLES, Process

from inferd.core.errors import LoadFailed
from inferd.sources.remote import Mirror
from ranker_support import MODEL

SUM_OF_WEIGHTS = "__import__('zlib').crc32(open(__file__.replace('model.py', 'weights.bin'), 'rb').read())"
JSON = {"Content-Type": "application/json"}
WATCH = ("--watch", "--watch-interval-s", "0.3", "--watch-settle-s", "0.3")


@pytest.fixture(scope="module", params=STORES)
def store(request):
    with STORES[request.param]() as made:
        yield made


@pytest.fixture
def bucket(store, request):
    return store.bucket(re.sub("[^a-z0-9]+", "-", request.node.name.lower())[-60:].strip("-"))


def put_version(bucket, version, answer=None):
    bucket.put(f"m/{version}/model.py", MODEL.replace("VERSION", answer or str(version)).encode())


class Served:
    """``inferd serve``, with its cache in ``folder``."""

    def __init__(self, folder, env, *args):
        self.folder = folder
        self.process = Process(folder, "serve", *args, env={**env, "XDG_CACHE_HOME": str(folder / "cache")})

    def __enter__(self):
        self.process.wait_ready()
        return self

    def __exit__(self, *exception):
        self.process.__exit__()

    def predict(self, model="m"):
        status, _, body = self.process.ask("POST", f"/models/{model}/predict", '{"instances": [[1]]}', JSON)
        return json.loads(body)["predictions"][0] if status == 200 else status

    def until(self, condition):
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, self.process.output
            time.sleep(0.05)

    def fetched(self):
        """How many files the cache holds."""
        return len(list((self.folder / "cache" / "inferd" / "blobs").iterdir()))


def test_a_bucket_is_followed_like_a_folder(tmp_path, store, bucket):
    bucket.put("m/model.toml", b"[batching]\nmax_batch_size = 7\n")
    put_version(bucket, 1)
    put_version(bucket, 2)
    with Served(tmp_path, store.env, bucket.url, *WATCH) as served:
        assert served.predict() == 2
        info = json.loads(served.process.ask("GET", "/model/info")[2])
        assert info["batching"]["max_batch_size"] == 7
        assert served.fetched() == 2  # nobody asked for version 1
        put_version(bucket, 3)
        served.until(lambda: served.predict() == 3)
        bucket.delete("m/3/model.py")
        served.until(lambda: served.predict() == 2)
        bucket.vanish()
        served.until(lambda: "what was fetched before goes on" in served.process.output)
        assert served.predict() == 2
        [line] = [line for line in served.process.output.splitlines() if "goes on" in line]
        assert bucket.url in line
        assert "does not exist" in line
    with Served(tmp_path, store.env, bucket.url) as served:  # the bucket is gone, the cache is not
        assert served.predict() == 2
        assert "Traceback" not in served.process.output


def test_a_marker_completes_a_version_in_a_bucket(tmp_path, store, bucket):
    put_version(bucket, 1)
    bucket.put("m/1/_SUCCESS", b"")
    with Served(tmp_path, store.env, bucket.url, *WATCH, "--complete-marker", "_SUCCESS") as served:
        put_version(bucket, 2)
        described = lambda: json.loads(served.process.ask("GET", "/admin/models/m")[2])  # noqa: E731
        served.until(lambda: "2: it has no _SUCCESS yet" in described()["ignored"])
        assert served.predict() == 1
        bucket.put("m/2/_SUCCESS", b"")
        served.until(lambda: served.predict() == 2)


@pytest.fixture(scope="session")
def sealed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sealed")
    shutil.copytree(EXAMPLES / "iris-onnx" / "1", folder / "1")
    with Process(folder, "seal", folder / "1") as seal:
        assert seal.exit_code() == 0
    return folder / "1"


def test_check_holds_a_sealed_version_to_its_manifest_and_reads_one_file(tmp_path, store, bucket, sealed):
    for file in sealed.iterdir():
        bucket.put(f"flowers/1/{file.name}", file.read_bytes())
    env = {**store.env, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with Process(tmp_path, "check", f"{bucket.url}/flowers", f"{bucket.url}/flowers/1/iris.onnx", env=env) as check:
        assert check.exit_code() == 0, check.output
    bucket.put("flowers/1/iris.onnx", b"another")
    with Process(tmp_path, "check", f"{bucket.url}/flowers", env=env) as check:
        assert check.exit_code() == 1, check.output
        assert "iris.onnx" in check.output
        assert "Traceback" not in check.output


def test_a_download_that_breaks_off_goes_on_where_it_was(tmp_path, store, bucket):
    weights = np.random.default_rng(1).bytes(2 * PIECE + (4 << 20))
    bucket.put("m/1/weights.bin", weights)
    put_version(bucket, 1, SUM_OF_WEIGHTS)
    with Relay(store.port, breaks=("cut", "hold")) as relay:
        served = Served(tmp_path, store.find(relay.port), bucket.url)
        with served.process:  # killed in the middle of the second piece
            assert relay.held.wait(60), served.process.output
        assert relay.asked[0] == 0
        assert min(relay.asked[1:]) >= PIECE
    with Relay(store.port) as relay, Served(tmp_path, store.find(relay.port), bucket.url) as served:
        assert served.predict() == zlib.crc32(weights)
        assert min(relay.asked) == PIECE


def test_a_bucket_that_is_not_there_is_one_line(tmp_path, store):
    env = {**store.env, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with Process(tmp_path, "serve", f"{store.scheme}://nowhere/models", env=env) as process:
        assert process.exit_code() == 1
        assert process.output == f"inferd: {store.scheme}://nowhere/models holds no files, or does not exist\n"


def test_credentials_that_are_refused_are_one_line(tmp_path, store, bucket, monkeypatch):
    put_version(bucket, 1)
    with store.refusing() as env:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(LoadFailed) as raised:
            Mirror(bucket.url, tmp_path).refresh()
    fsspec.get_filesystem_class(store.scheme).clear_instance_cache()
    assert str(raised.value) == f"{bucket.url} cannot be listed: {store.refusal}"


@pytest.fixture
def web(tmp_path):
    """A folder behind http.server, whose pages of links are the listing."""
    root = tmp_path / "www"
    shutil.copytree(EXAMPLES / "iris-onnx", root / "models" / "iris-onnx")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=root)
    handler.log_message = lambda *arguments: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize("path", ["models", "models/iris-onnx/1/iris.onnx"])
def test_a_web_server_serves_a_repository_or_one_file(tmp_path, web, path):
    with Served(tmp_path, {}, f"{web}/{path}") as served:
        body = '{"instances": [[5.1, 3.5, 1.4, 0.2]]}'
        status, _, answer = served.process.ask("POST", "/predict", body, JSON)
        assert status == 200, answer
        assert Path(tmp_path / "cache" / "inferd" / "blobs").is_dir()
