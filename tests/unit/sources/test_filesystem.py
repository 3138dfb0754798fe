"""fsspec's file systems as a store: what a listing tells, and what is said where there is none."""

import functools
import http.server
import itertools
import os
import socket
import subprocess
import sys
import threading

import aiohttp
import fsspec
import pytest

from inferd.core.errors import ConfigError, LoadFailed
from inferd.sources import filesystem
from inferd.sources.filesystem import EXTRAS, FileSystemStore

MODULES = {"s3": "s3fs", "gcs": "gcsfs", "azure": "adlfs", "remote": "aiohttp"}


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    yield store
    store.rm("/", recursive=True)


@pytest.fixture
def fresh():
    """fsspec keeps file systems by what they were made with, which leaves out the environment."""
    yield
    for scheme in EXTRAS:
        fsspec.get_filesystem_class(scheme).clear_instance_cache()


class Web(http.server.SimpleHTTPRequestHandler):
    """A folder as pages of links, that knows no ranges. A folder called "broken" answers 500; a file called "turning"
    is another one each time it is sent."""

    turns = itertools.count(1)

    def do_GET(self):
        if "broken" in self.path:
            return self.send_error(500)
        if "turning" in self.path:
            turn = next(self.turns)
            os.utime(self.translate_path(self.path), (turn, turn))
        return super().do_GET()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def web(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Web, directory=tmp_path))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def put(folder, path, body=b"content"):
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(body)
    return target


def test_a_repository_is_every_file_below_it_by_its_path(memory):
    memory.pipe({"/models/m/1/a.onnx": b"12345", "/models/m/model.toml": b"", "/other/m/2/a.onnx": b"1"})
    files = FileSystemStore("memory://models").files()
    assert {path: file.size_bytes for path, file in files.items()} == {"m/1/a.onnx": 5, "m/model.toml": 0}


def test_a_root_that_is_one_file_has_no_path(memory):
    memory.pipe("/models/a.onnx", b"12345")
    store = FileSystemStore("memory://models/a.onnx")
    assert store.name == "a.onnx"
    assert [(path, file.size_bytes) for path, file in store.files().items()] == [("", 5)]


def test_a_web_server_that_gives_times_and_no_etags_tells_a_change(tmp_path, web):
    target = put(tmp_path, "m/1/a.onnx")
    os.utime(target, (1, 1))
    store = FileSystemStore(web)
    [before] = store.files().values()
    os.utime(target, (100, 100))
    [after] = store.files().values()
    assert before.size_bytes == after.size_bytes
    assert before.tag != after.tag


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path, web):
    put(tmp_path, "m/1/a.onnx")
    put(tmp_path, "m/2/broken/a.onnx")
    with pytest.raises(aiohttp.ClientResponseError, match="500"):
        FileSystemStore(web).files()


def test_hidden_folders_are_not_looked_into(tmp_path, web):
    put(tmp_path, "m/1/a.onnx")
    put(tmp_path, ".git/broken/a")
    assert list(FileSystemStore(web).files()) == ["m/1/a.onnx"]


def test_a_page_of_links_in_another_order_is_no_file_and_names_are_decoded(tmp_path, web):
    put(tmp_path, "m/1/my model.onnx")
    put(tmp_path, "m/1/index.html", b'<a href="?C=N;O=D">Name</a> <a href="my%20model.onnx">my model.onnx</a>')
    assert list(FileSystemStore(web).files()) == ["m/1/my model.onnx"]


def test_a_url_with_a_query_is_called_by_its_path(tmp_path, web):
    put(tmp_path, "my model.onnx")
    store = FileSystemStore(f"{web}/my%20model.onnx?signature=a/b")
    assert store.name == "my model.onnx"
    assert [file.size_bytes for file in store.files().values()] == [7]


def test_a_download_goes_on_at_a_server_that_sends_everything_again(tmp_path, web):
    put(tmp_path, "a.onnx")
    store = FileSystemStore(f"{web}/a.onnx")
    partial = put(tmp_path, "partial", b"con")
    store.append(store.files()[""], partial)
    assert partial.read_bytes() == b"content"


def test_a_file_that_changes_while_it_is_fetched_is_not_taken(tmp_path, web):
    put(tmp_path, "turning.onnx")
    store = FileSystemStore(f"{web}/turning.onnx")
    with pytest.raises(LoadFailed, match="changed while it was fetched"):
        store.append(store.files()[""], tmp_path / "partial")


@pytest.mark.parametrize("url", ["memory://nowhere", "WEB/nowhere", "WEB/nowhere.onnx"])
def test_what_is_not_there_is_said(web, url):
    url = url.replace("WEB", web)
    with pytest.raises(LoadFailed) as raised:
        FileSystemStore(url).files()
    assert str(raised.value) == f"{url} holds no files, or does not exist"


def test_a_server_that_is_not_there_is_no_missing_file():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/models"
    with pytest.raises(OSError, match="Cannot connect to host"):
        FileSystemStore(url).files()


@pytest.mark.parametrize(
    ("url", "setting"),
    [
        ("http://HOST/models", {}),
        (
            "s3://bucket/models",
            {"AWS_ENDPOINT_URL": "http://HOST", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
        ),
        ("gs://bucket/models", {"STORAGE_EMULATOR_HOST": "http://HOST"}),
        (
            "abfs://bucket/models",
            {
                "AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YWJj;"
                "BlobEndpoint=http://HOST/a;"
            },
        ),
    ],
)
def test_a_store_that_never_answers_is_not_waited_for(fresh, monkeypatch, url, setting):
    monkeypatch.setattr(filesystem, "LISTING_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        for name, value in setting.items():
            monkeypatch.setenv(name, value.replace("HOST", host))
        with pytest.raises(TimeoutError, match="no answer within 0 seconds"):
            FileSystemStore(url.replace("HOST", host)).files()


def test_what_is_missing_is_named_for_every_scheme():
    """In a process where none of the libraries can be imported."""
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({list(MODULES.values())}))\n"
        "from inferd.core.errors import MissingExtra\n"
        "from inferd.sources.filesystem import FileSystemStore\n"
        "for scheme in sys.argv[1:]:\n"
        "    try: FileSystemStore(f'{scheme}://bucket/models')\n"
        "    except MissingExtra as error: print(error)\n"
    )
    schemes = [*EXTRAS, "http", "https"]
    done = subprocess.run([sys.executable, "-c", code, *schemes], capture_output=True, text=True, check=True)
    expected = {scheme: EXTRAS.get(scheme, "remote") for scheme in schemes}
    assert done.stdout.splitlines() == [
        f"{scheme}://bucket/models needs an extra that is not installed: pip install 'inferd[{extra}]'"
        for scheme, extra in expected.items()
    ]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nope://bucket/models", "Protocol not known: nope"),
        ("hf://owner/models", "Install huggingface_hub"),
        ("github://models", "missing 2 required positional arguments"),
        ("abfs://container/models", "AZURE_STORAGE_CONNECTION_STRING"),
    ],
)
def test_a_url_that_cannot_be_opened_says_why(fresh, monkeypatch, url, words):
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING", raising=False)
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(ConfigError, match=words) as raised:
        FileSystemStore(url)
    assert str(raised.value).startswith(f"{url}: ")
