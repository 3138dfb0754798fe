"""A real ``inferd serve`` with gRPC, and calls to it by our own messages."""

from __future__ import annotations

import sys
from pathlib import Path

import grpc
import numpy as np

from inferd.protocols.grpc.schema import message_class

sys.path.insert(0, str(Path(__file__).parents[2] / "e2e"))

from serve_support import Process, free_port, gated_model

SERVICE = "inference.GRPCInferenceService"
TYPED = ("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP32", "FP64", "BYTES")
HALVES = ("FP16", "BF16")

MODELS = {
    "wide": f'''
class Model:
    """Gives back one tensor of each datatype that has typed contents."""
    inputs = {{name: f"{{name}}[-1, 2]" for name in {TYPED!r}}}
    outputs = {{f"out_{{name}}": f"{{name}}[-1, 2]" for name in {TYPED!r}}}
    batchable = True

    def predict(self, {", ".join(TYPED)}):
        return {{{", ".join(f'"out_{name}": {name}' for name in TYPED)}}}
''',
    "halves": '''
class Model:
    """The same for those that have none."""
    inputs = {"FP16": "FP16[-1, 2]", "BF16": "BF16[-1, 2]"}
    outputs = {"out_FP16": "FP16[-1, 2]", "out_BF16": "BF16[-1, 2]"}
    batchable = True

    def predict(self, FP16, BF16):
        return {"out_FP16": FP16, "out_BF16": BF16}
''',
    "strict": '''
import inferd
import numpy as np

class Model:
    """Doubles; refuses minus one as the caller's mistake and breaks on minus two."""
    inputs = {"x": "FP32[-1, 2]"}
    outputs = {"y": "FP32[-1, 2]", "name": "BYTES[-1]"}
    batchable = True

    def predict(self, x):
        if (x == -1).any():
            raise inferd.InvalidInput("minus one is not for this model")
        if (x == -2).any():
            raise RuntimeError("a secret path: /etc/shadow")
        return {"y": x * 2, "name": np.array([b"row"] * len(x), dtype=object)}
''',
    "pieces": '''
from pathlib import Path

import numpy as np

class Model:
    """Yields n times 64 KiB, and writes down how often."""
    inputs = {"n": "INT64[1]"}
    outputs = {"y": "UINT8[65536]"}

    def predict(self, n):
        for i in range(int(n[0])):
            yield np.zeros(65536, np.uint8)
            Path(__file__).with_suffix(".count").write_text(str(i + 1))
''',
}


def message(name, **values):
    return message_class(f"inference.{name}")(**values)


class Served:
    """The server; ``call`` makes one unary call."""

    def __init__(self, folder, *args, env=None):
        for name, source in MODELS.items():
            (Path(folder) / f"{name}.py").write_text(source)
        gated_model(folder)
        paths = [f"{name}.py:Model" for name in (*MODELS, "gated")]
        self.folder = Path(folder)
        self.port = free_port()
        self.process = Process(folder, "serve", *paths, "--grpc-port", self.port, *args, env=env).wait_ready()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")

    def close(self):
        self.channel.close()
        self.process.__exit__()

    def method(self, name, service=SERVICE):
        return self.channel.unary_unary(f"/{service}/{name}")

    def raw_call(self, name, body, service=SERVICE, **options):
        """Status, details and body of a call with bytes."""
        try:
            answer = self.method(name, service)(body, timeout=20, **options)
        except grpc.RpcError as error:
            return error.code().name, error.details(), b""
        return "OK", "", answer

    def call(self, name, request=None, **options):
        body = b"" if request is None else request.SerializeToString()
        status, details, answer = self.raw_call(name, body, **options)
        return status, details, message_class(f"inference.{name}Response").FromString(answer)

    def infer(self, request, **options):
        return self.call("ModelInfer", request, **options)


def strict_request(values=((1.0, 2.0),), **more):
    """A request to ``strict`` with raw contents."""
    array = np.array(values, np.float32)
    return message(
        "ModelInferRequest",
        model_name="strict",
        inputs=[{"name": "x", "datatype": "FP32", "shape": array.shape}],
        raw_input_contents=[array.tobytes()],
        **more,
    )


def gated_request(value=1.0):
    return message(
        "ModelInferRequest",
        model_name="gated",
        inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 2]}],
        raw_input_contents=[np.full((1, 2), value, np.float32).tobytes()],
    ).SerializeToString()


class Held:
    """The gated model, held up with one request in it."""

    def __init__(self, served):
        self.served = served
        self.hold = served.folder / "hold"
        self.entered = served.folder / "entered"

    def __enter__(self):
        self.entered.unlink(missing_ok=True)
        self.hold.touch()
        self.first = self.served.method("ModelInfer").future(gated_request(), timeout=30)
        self.served.process.wait_for(self.entered.exists)
        return self

    def __exit__(self, *exception):
        self.hold.unlink(missing_ok=True)
        answer = message_class("inference.ModelInferResponse").FromString(self.first.result())
        assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [2, 2]
