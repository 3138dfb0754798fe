"""Tensors in system shared memory, placed by Triton's own clients over HTTP and gRPC."""

import contextlib
import itertools
import json
import os
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
import tritonclient.utils.shared_memory as shm
from serve_support import Process, free_port, gated_model
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

ECHO = """
class Echo:
    inputs = {"n": "INT64[-1]", "x": "FP32[-1, 2]", "text": "BYTES[-1]"}
    outputs = {"n_out": "INT64[-1]", "x_out": "FP32[-1, 2]", "text_out": "BYTES[-1]"}
    batchable = True

    def predict(self, n, x, text):
        assert x.flags.aligned
        return {"n_out": n * 2, "x_out": x, "text_out": text}
"""
N = np.array([2**53 + 1, -5], np.int64)
X = np.array([[1.5, -2], [3, 4]], np.float32)
TEXT = np.array([b"\xff\x00 not text", b""], object)
PACKED = serialize_byte_tensor(TEXT).item()
_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    (folder / "echo.py").write_text(ECHO)
    gated_model(folder)
    port = free_port()
    flags = ("--allow-shared-memory", "--grpc-port", port)
    with Process(folder, "serve", "echo.py:Echo", "gated.py:Model", *flags) as process:
        process.grpc_port, process.folder = port, folder
        yield process.wait_ready()


def connect(kind, server):
    module = {"http": tritonclient.http, "grpc": tritonclient.grpc}[kind]
    client = module.InferenceServerClient(f"127.0.0.1:{server.port if kind == 'http' else server.grpc_port}")
    client.module = module
    return client


@pytest.fixture(params=["http", "grpc"])
def client(request, server):
    with connect(request.param, server) as client:
        yield client
        client.unregister_system_shared_memory()


@contextlib.contextmanager
def memory(size, *arrays, offset=0):
    """An object of shared memory that holds ``arrays`` one after the other; gives its handle and its key."""
    key = f"/inferd-test-{os.getpid()}-{next(_numbers)}"
    handle = shm.create_shared_memory_region("region", key, size)
    try:
        shm.set_shared_memory_region(handle, list(arrays), offset=offset)
        yield handle, key
    finally:
        shm.destroy_shared_memory_region(handle)


def tensor(client, name, shape, datatype, size, offset=0, region="in"):
    made = client.module.InferInput(name, shape, datatype)
    made.set_shared_memory(region, size, offset=offset)
    return made


def output(client, name, size, offset=0, region="out"):
    made = client.module.InferRequestedOutput(name)
    made.set_shared_memory(region, size, offset=offset)
    return made


def inputs(client, start=0):
    return [
        tensor(client, "n", [2], "INT64", N.nbytes, start),
        tensor(client, "x", [2, 2], "FP32", X.nbytes, start + N.nbytes),
        tensor(client, "text", [2], "BYTES", len(PACKED), start + N.nbytes + X.nbytes),
    ]


CONTENT = (N, X, np.array([PACKED], object))


def test_tensors_go_in_and_out_through_regions(client):
    with memory(4096, *CONTENT) as (_, key_in), memory(4096) as (written, key_out):
        client.register_system_shared_memory("in", key_in, 4096)
        client.register_system_shared_memory("out", key_out, 4096)
        wanted = [output(client, "n_out", 16), output(client, "text_out", 100, 1000)]
        wanted.append(client.module.InferRequestedOutput("x_out"))
        answer = client.infer("echo", inputs(client), outputs=wanted)
        assert shm.get_contents_as_numpy(written, np.int64, [2]).tolist() == (N * 2).tolist()
        assert shm.get_contents_as_numpy(written, np.object_, [2], 1000).tolist() == TEXT.tolist()
        np.testing.assert_array_equal(answer.as_numpy("x_out"), X)
        entry = str(answer.get_output("text_out"))
        assert "shared_memory_byte_size" in entry
        assert str(len(PACKED)) in entry


def test_one_tensor_may_be_in_a_region_and_the_others_in_the_body(client):
    with memory(64, X) as (_, key):
        client.register_system_shared_memory("in", key, 64)
        number = client.module.InferInput("n", [2], "INT64")
        number.set_data_from_numpy(N)
        text = client.module.InferInput("text", [2], "BYTES")
        text.set_data_from_numpy(TEXT)
        for _ in range(2):  # the second time by what is remembered of the request
            answer = client.infer("echo", [number, tensor(client, "x", [2, 2], "FP32", 16), text])
            np.testing.assert_array_equal(answer.as_numpy("x_out"), X)
            assert answer.as_numpy("n_out").tolist() == (N * 2).tolist()
            assert answer.as_numpy("text_out").tolist() == TEXT.tolist()


def test_the_offsets_of_region_and_tensor_add_up_and_need_not_be_aligned(client):
    with memory(4096, *CONTENT, offset=100 + 3) as (_, key):
        client.register_system_shared_memory("in", key, 2000, offset=100)
        answer = client.infer("echo", inputs(client, start=3))
        assert answer.as_numpy("n_out").tolist() == (N * 2).tolist()
        assert answer.as_numpy("text_out").tolist() == TEXT.tolist()


def test_values_are_read_anew_for_each_request(client):
    with memory(4096, *CONTENT) as (handle, key):
        client.register_system_shared_memory("in", key, 4096)
        for number in range(3):
            shm.set_shared_memory_region(handle, [np.array([number, 0], np.int64)])
            assert client.infer("echo", inputs(client)).as_numpy("n_out")[0] == number * 2


def test_status_shows_what_is_registered_until_it_is_not(client):
    with memory(4096) as (_, key):
        client.register_system_shared_memory("in", key, 1000, offset=24)
        client.register_system_shared_memory("more", key, 96)
        status = client.get_system_shared_memory_status()
        listed = status if isinstance(status, list) else list(status.regions.values())
        assert len(listed) == 2
        text = str(client.get_system_shared_memory_status("in"))
        assert key in text
        assert "1000" in text
        with pytest.raises(InferenceServerException, match="registered already"):
            client.register_system_shared_memory("in", key, 1000)
        client.unregister_system_shared_memory("in")
        client.unregister_system_shared_memory("in")
        with pytest.raises(InferenceServerException, match="there is no shared memory region"):
            client.get_system_shared_memory_status("in")
        with pytest.raises(InferenceServerException, match="register it first"):
            client.infer("echo", inputs(client))
        client.unregister_system_shared_memory()
        assert "more" not in str(client.get_system_shared_memory_status())


def open_objects(server):
    return [
        link for each in Path(f"/proc/{server.process.pid}/fd").iterdir() if "/dev/shm" in (link := os.readlink(each))
    ]


def test_nothing_stays_open_of_what_is_unregistered_or_refused(server, client):
    with memory(4096) as (_, key):
        for name in ("a", "b", "c"):
            client.register_system_shared_memory(name, key, 4096)
        assert len(open_objects(server)) == 3
        with pytest.raises(InferenceServerException, match="not within"):
            client.register_system_shared_memory("d", key, 4097)
        client.unregister_system_shared_memory()
        assert open_objects(server) == []


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        ".",
        "..",
        "/..",
        "/../etc/passwd",
        "../../etc/passwd",
        "//x",
        "a/b",
        "/dev/shm/x",
        "x\0y",
        "k" * 300,
        "nobody",
    ],
)
def test_a_hostile_key_is_refused(client, key):
    with pytest.raises(InferenceServerException, match=r"no key of shared memory|cannot be opened"):
        client.register_system_shared_memory("in", key, 1)


def test_a_link_or_a_folder_is_no_object(client):
    name = f"inferd-link-{os.getpid()}"
    link, folder = Path("/dev/shm") / name, Path("/dev/shm") / f"{name}-folder"
    link.symlink_to("/etc/passwd")
    folder.mkdir()
    try:
        for path in (link, folder):
            with pytest.raises(InferenceServerException, match=r"cannot be opened"):
                client.register_system_shared_memory("in", path.name, 1)
    finally:
        link.unlink()
        folder.rmdir()


@pytest.mark.parametrize(("size", "offset"), [(4097, 0), (1, 4096), (4096, 1), (0, 0), (2**63 - 1, 1)])
def test_a_region_must_lie_within_its_object(client, size, offset):
    with memory(4096) as (_, key), pytest.raises(InferenceServerException, match="not within"):
        client.register_system_shared_memory("in", key, size, offset=offset)


@pytest.mark.parametrize(
    ("size", "offset", "words"),
    [
        (16, 4081, "past the end"),
        (16, 2**63 - 1, "past the end"),
        (15, 0, "has 16 bytes"),
        (17, 0, "has 16 bytes"),
        (0, 0, "has 16 bytes"),
        (-16, 0, "number of bytes"),
        (16, -8, "number of bytes"),
    ],
)
def test_a_tensor_must_lie_within_its_region(client, size, offset, words):
    with memory(8192, *CONTENT) as (_, key):
        client.register_system_shared_memory("in", key, 4096)
        wrong = [tensor(client, "n", [2], "INT64", size, offset), *inputs(client)[1:]]
        with pytest.raises(InferenceServerException, match=words):
            client.infer("echo", wrong)
        assert client.infer("echo", inputs(client)).as_numpy("n_out").tolist() == (N * 2).tolist()


def test_bytes_must_fill_their_place_exactly(client):
    with memory(4096, *CONTENT) as (_, key):
        client.register_system_shared_memory("in", key, 4096)
        wrong = [*inputs(client)[:2], tensor(client, "text", [2], "BYTES", len(PACKED) + 4, 32)]
        with pytest.raises(InferenceServerException, match="length-prefixed"):
            client.infer("echo", wrong)


@pytest.mark.parametrize(("size", "offset", "words"), [(15, 0, "shared_memory_byte_size"), (16, 4090, "past the end")])
def test_an_output_needs_room_and_nothing_is_written_beside_it(client, size, offset, words):
    with memory(4096, *CONTENT) as (_, key), memory(4096) as (written, key_out):
        client.register_system_shared_memory("in", key, 4096)
        client.register_system_shared_memory("out", key_out, 4096)
        with pytest.raises(InferenceServerException, match=words):
            client.infer("echo", inputs(client), outputs=[output(client, "n_out", size, offset)])
        assert not shm.get_contents_as_numpy(written, np.uint8, [4096]).any()
        assert os.stat(f"/dev/shm{key_out}").st_size == 4096


def test_an_object_that_shrinks_harms_nobody(client):
    with memory(1 << 16, *CONTENT) as (_, key):
        client.register_system_shared_memory("in", key, 1 << 16)
        client.register_system_shared_memory("out", key, 1 << 16)
        os.truncate(f"/dev/shm{key}", 8)
        with pytest.raises(InferenceServerException, match="become shorter"):
            client.infer("echo", inputs(client))
        assert client.is_server_live()
        assert os.stat(f"/dev/shm{key}").st_size == 8


def test_what_changes_while_the_model_runs_is_not_seen(server, client):
    hold, entered = server.folder / "hold", server.folder / "entered"
    with memory(64, X) as (handle, key):
        client.register_system_shared_memory("in", key, 64)
        entered.unlink(missing_ok=True)
        hold.touch()
        waiting = None
        try:
            place = tensor(client, "x", [2, 2], "FP32", 16)
            if client.module is tritonclient.http:
                waiting = client.async_infer("gated", [place]).get_result
            else:
                answers = []
                client.async_infer("gated", [place], callback=lambda result, error: answers.append((result, error)))
                waiting = lambda: first(answers)  # noqa: E731
            server.wait_for(entered.exists)
            shm.set_shared_memory_region(handle, [X * 100])
        finally:
            hold.unlink()
        np.testing.assert_array_equal(waiting().as_numpy("y"), X * 2)


def first(answers):
    end = time.monotonic() + 30
    while not answers:
        assert time.monotonic() < end
        time.sleep(0.005)
    result, error = answers[0]
    assert error is None
    return result


def test_cuda_memory_is_refused_with_the_reason(client):
    with pytest.raises(InferenceServerException, match="use system shared memory"):
        client.get_cuda_shared_memory_status()
    with pytest.raises(InferenceServerException, match="use system shared memory"):
        client.register_cuda_shared_memory("gpu", b"aGFuZGxl", 0, 64)
    with pytest.raises(InferenceServerException, match="use system shared memory"):
        client.unregister_cuda_shared_memory("gpu")


def test_all_regions_of_both_kinds_may_be_unregistered_as_clients_do_before_they_begin(client):
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()


def test_both_protocols_have_the_same_regions_and_say_so(server):
    with connect("http", server) as http, connect("grpc", server) as grpc, memory(64, X) as (_, key):
        assert "system_shared_memory" in http.get_server_metadata()["extensions"]
        assert "system_shared_memory" in grpc.get_server_metadata().extensions
        http.register_system_shared_memory("in", key, 64)
        answer = grpc.infer("gated", [tensor(grpc, "x", [2, 2], "FP32", 16)])
        np.testing.assert_array_equal(answer.as_numpy("y"), X * 2)
        grpc.unregister_system_shared_memory("in")
        assert http.get_system_shared_memory_status() == []


def test_no_web_page_registers_anything(server):
    path = "/v2/systemsharedmemory/region/in/register"
    page = {"Origin": "http://elsewhere.example", "Content-Type": "text/plain"}
    assert server.ask("POST", path, '{"key": "/x", "byte_size": 1}', page)[0] == 415


@pytest.mark.parametrize("body", ["", "[]", "{", '{"key": 5, "byte_size": 1}', '{"byte_size": 1}', '{"key": "/x"}'])
def test_a_registration_that_cannot_be_read_is_refused(server, body):
    status, _, answer = server.ask("POST", "/v2/systemsharedmemory/region/in/register", body)
    assert (status, list(json.loads(answer))) == (400, ["error"])


def test_parameters_that_name_half_a_place_are_refused(server):
    for half in ({"shared_memory_region": "in"}, {"shared_memory_byte_size": 8}, {"shared_memory_offset": 8}):
        entry = {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": half}
        status, _, answer = server.ask("POST", "/v2/models/gated/infer", json.dumps({"inputs": [entry]}))
        assert (status, list(json.loads(answer))) == (400, ["error"])


def test_a_region_is_its_owners_alone(tmp_path):
    (tmp_path / "echo.py").write_text(ECHO)
    port = free_port()
    keys = (f"{name}:inference:{sha256(f'{name}-key'.encode()).hexdigest()}" for name in ("first", "second"))
    env = {"INFERD_API_KEYS": ",".join(keys)}
    flags = ("--allow-shared-memory", "--grpc-port", port)
    with Process(tmp_path, "serve", "echo.py:Echo", *flags, env=env) as process:
        process.grpc_port = port
        process.wait_ready()
        mine = {"headers": {"authorization": "Bearer first-key"}}
        theirs = {"headers": {"authorization": "Bearer second-key"}}
        for kind in ("http", "grpc"):
            with connect(kind, process) as client, memory(4096, *CONTENT) as (_, key):
                client.register_system_shared_memory("in", key, 4096, **mine)
                assert client.infer("echo", inputs(client), **mine).as_numpy("n_out").tolist() == (N * 2).tolist()
                with pytest.raises(InferenceServerException, match="register it first"):
                    client.infer("echo", inputs(client), **theirs)
                assert "in" not in str(client.get_system_shared_memory_status(**theirs))
                client.unregister_system_shared_memory(**theirs)
                assert client.infer("echo", inputs(client), **mine).as_numpy("n_out").size == 2
                client.register_system_shared_memory("in", key, 4096, **theirs)
                client.unregister_system_shared_memory(**mine)
                with pytest.raises(InferenceServerException):
                    client.get_system_shared_memory_status()
                client.unregister_system_shared_memory(**theirs)
