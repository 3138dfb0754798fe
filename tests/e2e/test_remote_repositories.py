"""Repositories on an S3 endpoint and on a web server, both real processes or threads that speak HTTP."""

import functools
import http.server
import json
import shutil
import threading
import time
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from serve_support import EXAMPLES, Process

CODE = """
import numpy as np

class Model:
    inputs = {"x": "FP32[-1, 1]"}
    outputs = {"version": "INT64[-1]"}
    batchable = True

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.full(len(x), VERSION)
"""
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, request):
    name = request.node.name.replace("_", "-").lower()[-60:].strip("-[]")
    s3 = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        region_name="us-east-1",
    )
    s3.create_bucket(Bucket=name)
    return Bucket(s3, name)


class Bucket:
    def __init__(self, s3, name):
        self.s3, self.name = s3, name
        self.url = f"s3://{name}/models"

    def put(self, key, body):
        self.s3.put_object(Bucket=self.name, Key=f"models/{key}", Body=body)

    def put_version(self, version, model="m"):
        self.put(f"{model}/{version}/model.py", CODE.replace("VERSION", str(version)).encode())

    def delete_version(self, version, model="m"):
        self.s3.delete_object(Bucket=self.name, Key=f"models/{model}/{version}/model.py")

    def empty(self):
        for each in self.s3.list_objects_v2(Bucket=self.name)["Contents"]:
            self.s3.delete_object(Bucket=self.name, Key=each["Key"])
        self.s3.delete_bucket(Bucket=self.name)


class Served:
    def __init__(self, folder, endpoint, *args):
        env = {**KEYS, "AWS_ENDPOINT_URL": endpoint, "XDG_CACHE_HOME": str(folder / "cache")}
        self.folder = folder
        self.process = Process(folder, "serve", *args, env=env)

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
            assert time.monotonic() < end, self.process.log.read_text()
            time.sleep(0.05)

    def fetched(self):
        """How many files the cache holds."""
        return len(list((self.folder / "cache" / "inferd" / "blobs").iterdir()))


WATCH = ("--watch", "--watch-interval-s", "0.3", "--watch-settle-s", "0.3")


def test_a_bucket_is_followed_like_a_folder(tmp_path, endpoint, bucket):
    bucket.put("m/model.toml", b"[batching]\nmax_batch_size = 7\n")
    bucket.put_version(1)
    bucket.put_version(2)
    with Served(tmp_path, endpoint, bucket.url, *WATCH) as served:
        assert served.predict() == 2
        info = json.loads(served.process.ask("GET", "/model/info")[2])
        assert info["batching"]["max_batch_size"] == 7
        assert served.fetched() == 2  # nobody asked for version 1
        bucket.put_version(3)
        served.until(lambda: served.predict() == 3)
        bucket.delete_version(3)
        served.until(lambda: served.predict() == 2)
        bucket.empty()
        served.until(lambda: "what was fetched before goes on" in served.process.log.read_text())
        assert served.predict() == 2
    with Served(tmp_path, endpoint, bucket.url) as served:  # the bucket is gone, the cache is not
        assert served.predict() == 2


def test_a_marker_completes_a_version_in_a_bucket(tmp_path, endpoint, bucket):
    bucket.put_version(1)
    bucket.put("m/1/_SUCCESS", b"")
    with Served(tmp_path, endpoint, bucket.url, *WATCH, "--complete-marker", "_SUCCESS") as served:
        bucket.put_version(2)
        described = lambda: json.loads(served.process.ask("GET", "/admin/models/m")[2])  # noqa: E731
        served.until(lambda: "2: it has no _SUCCESS yet" in described()["ignored"])
        assert served.predict() == 1
        bucket.put("m/2/_SUCCESS", b"")
        served.until(lambda: served.predict() == 2)


def test_a_sealed_version_is_held_to_its_manifest(tmp_path, endpoint, bucket):
    local = tmp_path / "made" / "1"
    shutil.copytree(EXAMPLES / "iris-onnx" / "1", local)
    with Process(tmp_path, "seal", local) as seal:
        assert seal.exit_code() == 0
    for file in local.iterdir():
        bucket.put(f"iris/1/{file.name}", file.read_bytes())
    with Served(tmp_path, endpoint, bucket.url) as served:
        status, _, _ = served.process.ask("POST", "/predict", '{"instances": [[5.1, 3.5, 1.4, 0.2]]}', JSON)
        assert status == 200


def test_a_bucket_that_is_not_there_is_one_line(tmp_path, endpoint):
    env = {**KEYS, "AWS_ENDPOINT_URL": endpoint, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with Process(tmp_path, "serve", "s3://nowhere/models", env=env) as process:
        assert process.exit_code() != 0
        assert "s3://nowhere/models" in process.output
        assert "Traceback" not in process.output


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
    with Served(tmp_path, web, f"{web}/{path}") as served:
        body = '{"instances": [[5.1, 3.5, 1.4, 0.2]]}'
        status, _, answer = served.process.ask("POST", "/predict", body, JSON)
        assert status == 200, answer
        assert Path(tmp_path / "cache" / "inferd" / "blobs").is_dir()
