"""What one hot request may cost in calls of inferd's own code, and in copies: deterministic, unlike time."""

import asyncio
import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from uvicorn.server import ServerState

import inferd
from inferd.repository.desired import WantedModel
from inferd.server.assembly import assemble
from inferd.server.hot import hot_protocol
from inferd.server.settings import Settings, model_defaults
from model_builders import onnx_graph

# Calls of functions in inferd, from the first byte read to the last byte written, of one request alone: parser
# callbacks, endpoint, scheduler, a batch of one, the answer. Raising a number is a reviewed change with a reason.
FIRST_REQUEST = 60
REPEATED_HEAD = 42
# More, for one that an experiment assigns, follows and logs.
IN_EXPERIMENT = 18
OWN_CODE = str(Path(inferd.__file__).parent)


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self):
        super().__init__()
        self.written = b""

    def write(self, data):
        self.written += data

    def get_extra_info(self, name, default=None):
        return default

    def is_closing(self):
        return False


EXPERIMENT = """
id = "e"
model = "%s"
unit = "request-id"
salt = "s"
variant = [{name = "control", target = "same@1"}, {name = "new", target = "same@1"}]
"""


async def connect(artefact, settings=None):
    """A connection of the hot front to a server of the models ``same`` and ``other``, both ``artefact``, without a
    socket."""
    settings = settings or Settings(default_model="same")
    config = model_defaults(settings)
    models = [WantedModel(name, replace(config, name=name), {1: artefact}) for name in ("same", "other")]
    assembly = assemble(settings, models, ())
    await assembly.repository.load_all()
    server = uvicorn.Config(assembly.gateway, lifespan="off", log_config=None)
    server.load()
    loop = asyncio.get_running_loop()
    protocol = hot_protocol(assembly.front)(config=server, server_state=ServerState(), app_state={}, _loop=loop)
    wire = Wire()
    protocol.connection_made(wire)
    return assembly, protocol, wire


def request(body, kind=b"application/json"):
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (kind, len(body)) + body


async def count_calls(artefact, settings=None):
    assembly, protocol, wire = await connect(artefact, settings)
    assert assembly.repository.records[0].servable.batcher.mode == "inline"
    counts = []
    for _ in range(3):
        calls = []

        def note(frame, event, _, calls=calls):
            if event == "call" and frame.f_code.co_filename.startswith(OWN_CODE):
                calls.append(frame.f_code.co_qualname)

        sys.setprofile(note)
        protocol.data_received(request(b'{"instances": [[5.1, 3.5, 1.4, 0.2]]}'))
        await asyncio.sleep(0)
        sys.setprofile(None)
        counts.append(calls)
    assert wire.written.count(b"HTTP/1.1 200 OK") == 3
    await assembly.repository.drain(1)
    if assembly.experiments is not None:
        assert [entry.state for entry in assembly.experiments.registry.entries] == ["running"]
        assembly.experiments.close()
    return counts


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """An ONNX model that costs nothing but its call: x in, x out."""
    from onnx import TensorProto, helper

    four = (TensorProto.FLOAT, ["n", 4])
    path = tmp_path_factory.mktemp("identity") / "same.onnx"
    return onnx_graph(path, [helper.make_node("Identity", ["x"], ["y"])], {"x": four}, {"y": four})


@pytest.fixture(scope="module")
def counts(identity):
    return asyncio.run(count_calls(identity))


def test_a_first_request_stays_within_its_calls(counts):
    assert len(counts[0]) <= FIRST_REQUEST, counts[0]


def test_a_repeated_head_stays_within_its_calls(counts):
    assert len(counts[2]) <= REPEATED_HEAD, counts[2]


def test_the_budget_is_not_slack(counts):
    """A budget that is never near what is spent guards nothing."""
    assert len(counts[0]) > FIRST_REQUEST - 5
    assert len(counts[2]) > REPEATED_HEAD - 5


def count_with_experiment(artefact, folder, model):
    (folder / "e.toml").write_text(EXPERIMENT % model)
    return asyncio.run(count_calls(artefact, Settings(default_model="same", experiments=str(folder))))


def test_an_experiment_on_another_model_costs_nothing(identity, counts, tmp_path):
    assert count_with_experiment(identity, tmp_path, "other") == counts


def test_a_request_in_an_experiment_stays_within_its_calls(identity, counts, tmp_path):
    more = len(count_with_experiment(identity, tmp_path, "same")[2]) - len(counts[2])
    assert IN_EXPERIMENT - 5 < more <= IN_EXPERIMENT


def test_the_model_receives_the_very_bytes_of_a_body_of_one_chunk(identity):
    async def scenario():
        assembly, protocol, wire = await connect(identity)
        model = assembly.repository.records[0].loaded.model
        seen = []
        run = model.execute
        model.execute = lambda inputs, *rest: seen.append(inputs["x"]) or run(inputs, *rest)
        buffer = io.BytesIO()
        np.save(buffer, np.float32([[1, 2, 3, 4]]))
        chunk = request(buffer.getvalue(), b"application/x-npy")
        protocol.data_received(chunk)
        body = np.frombuffer(protocol.cycle.body, np.uint8)
        await asyncio.sleep(0)
        assert b"200 OK" in wire.written
        assert np.shares_memory(seen[0], body)

    asyncio.run(scenario())
