"""What each gRPC front owes many callers at once, those who read slowly or leave, and those who stay to the end."""

import asyncio
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "conformance" / "grpc"))
from grpc_support import SERVICE, Held, Served, gated_request, message, strict_request

from inferd.protocols.grpc.schema import message_class

STREAM = f"/{SERVICE}/ModelStreamInfer"
WATCH = "/grpc.health.v1.Health/Watch"
GOOD = strict_request().SerializeToString()
PIECES = 2000
FRONTS = ("grpcio", "aio", "native")


@pytest.fixture(scope="module", params=FRONTS)
def served(request, tmp_path_factory):
    server = Served(tmp_path_factory.mktemp("load"), "--grpc-front", request.param)
    yield server
    server.close()


def test_calls_that_come_while_the_server_is_busy_are_all_answered(served):
    """grpcio would end those beyond a limit of its own as cancelled, at random."""
    served.process.signal(signal.SIGSTOP)
    calls = [served.method("ModelInfer").future(GOOD, timeout=120) for _ in range(3500)]
    time.sleep(0.5)  # so that they lie there when it goes on
    served.process.signal(signal.SIGCONT)
    assert Counter(call.code().name for call in calls) == {"OK": 3500}


def test_calls_whose_callers_have_left_before_they_were_looked_at_are_not_handled(served):
    before = handled(served)
    served.process.signal(signal.SIGSTOP)
    calls = [served.method("ModelInfer").future(GOOD, timeout=60) for _ in range(500)]
    time.sleep(0.5)
    for call in calls:
        call.cancel()
    time.sleep(0.5)
    served.process.signal(signal.SIGCONT)
    assert served.infer(strict_request())[0] == "OK"
    assert handled(served) - before < 500


def handled(served):
    """Requests that have been answered or given up."""
    text = served.process.ask("GET", "/metrics")[2].decode()
    lines = [
        line for line in text.splitlines() if line.startswith("inferd_requests_total") and 'model="strict"' in line
    ]
    return sum(float(line.split()[-1]) for line in lines)


@pytest.mark.parametrize("front", FRONTS)
def test_a_full_queue_is_told_and_what_is_in_it_is_answered(tmp_path, front):
    served = Served(tmp_path, "--grpc-front", front, "--max-queue-size", "8")
    with Held(served):
        calls = [served.method("ModelInfer").future(gated_request(), timeout=60) for _ in range(100)]
        served.process.wait_for(lambda: sum(call.done() for call in calls) == 92)
    found = Counter((call.code().name, dict(call.trailing_metadata()).get("retry-after")) for call in calls)
    assert found == {("OK", None): 8, ("UNAVAILABLE", "1"): 92}
    served.close()


def pieces(count):
    return message(
        "ModelInferRequest",
        model_name="pieces",
        inputs=[{"name": "n", "datatype": "INT64", "shape": [1]}],
        raw_input_contents=[np.int64(count).tobytes()],
    ).SerializeToString()


def produced(served):
    """How many pieces the model has made, once it makes no more."""
    path, before = served.folder / "pieces.count", ""
    while not path.exists() or (now := path.read_text()) != before or not now:
        before = path.read_text() if path.exists() else ""
        time.sleep(0.5)
    return int(now)


def test_a_model_waits_for_a_caller_who_reads_slowly(served):
    (served.folder / "pieces.count").unlink(missing_ok=True)
    call = served.channel.stream_stream(STREAM)(iter([pieces(PIECES)]), timeout=120)
    next(call)
    assert produced(served) < PIECES / 2
    assert served.infer(strict_request())[0] == "OK"
    assert sum(1 for _ in call) == PIECES - 1


def test_callers_who_leave_in_the_middle_are_no_defects(served):
    for number in range(30):
        call = served.channel.stream_stream(STREAM)(iter([pieces(PIECES), GOOD]), timeout=20)
        if number % 3:
            next(call)
        call.cancel()
        served.method("ModelInfer").future(GOOD, timeout=20).cancel()
        served.method("ModelInfer").future(GOOD, timeout=0.001).exception()
    assert served.infer(strict_request())[0] == "OK"
    served.process.wait_for(lambda: 'model="pieces"' not in inflight(served))
    assert "defect" not in served.process.output


def inflight(served):
    text = served.process.ask("GET", "/metrics")[2].decode()
    lines = [line for line in text.splitlines() if line.startswith("inferd_inflight") and not line.endswith(" 0")]
    return "".join(lines)


def test_a_stream_that_is_cancelled_takes_its_requests_out_of_the_queue(served):
    with Held(served):
        call = served.channel.stream_stream(STREAM)(iter([gated_request()] * 5), timeout=60)
        served.process.wait_for(lambda: queued(served) == 5)
        call.cancel()
        served.process.wait_for(lambda: queued(served) == 0)


def test_a_thousand_streams_are_open_at_once(served):
    async def ask(call):
        for _ in range(3):
            await call.write(GOOD)
            assert message_class("inference.ModelStreamInferResponse").FromString(await call.read()).error_message == ""

    async def main():
        async with grpc.aio.insecure_channel(f"127.0.0.1:{served.port}") as channel:
            calls = [channel.stream_stream(STREAM)(timeout=60) for _ in range(1000)]
            await asyncio.gather(*map(ask, calls))
            for call in calls:
                await call.done_writing()
                assert await call.read() is grpc.aio.EOF

    asyncio.run(main())


def test_metadata_may_be_binary_and_there_may_be_much_of_it(served):
    for metadata in ((("trace-bin", b"\0\xff"),), (("authorization-bin", b"\xff"),), (("a", "b"),) * 50):
        assert served.infer(strict_request(), metadata=metadata)[0] == "OK"


class Open:
    """A call with one message whose caller sends no more; ``ended`` are its answers and at last its status."""

    def __init__(self, served, path, *messages):
        self._rest = threading.Event()
        self.ended = []
        self._call = served.channel.stream_stream(path)(self._messages(messages), timeout=60)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _messages(self, messages):
        yield from messages
        self._rest.wait()

    def _read(self):
        try:
            for answer in self._call:
                self.ended.append(answer)
            self.ended.append("OK")
        except grpc.RpcError as error:
            self.ended.append((error.code().name, error.details()))

    def join(self):
        self._thread.join(60)
        self._rest.set()
        return self.ended


@pytest.mark.parametrize("front", FRONTS)
def test_at_the_end_streams_get_what_they_asked_for_and_a_reason(tmp_path, front):
    served = Served(tmp_path, "--grpc-front", front)
    stopping = ("UNAVAILABLE", "the server is stopping")
    idle, watch = Open(served, STREAM), Open(served, WATCH, b"")
    served.process.wait_for(lambda: watch.ended)
    with Held(served):
        busy = Open(served, STREAM, GOOD, gated_request(), GOOD)
        calls = [served.method("ModelInfer").future(gated_request(), timeout=60) for _ in range(50)]
        served.process.wait_for(lambda: busy.ended)
        served.process.wait_for(lambda: queued(served) == 51)
        served.process.signal()
        assert idle.join() == [stopping]
        assert [status(each) for each in watch.join()[:2]] == [1, 2]
        assert watch.ended[2:] == [stopping]
    *answers, end = busy.join()
    assert [message("ModelStreamInferResponse").FromString(each).error_message for each in answers] == [""] * 3
    assert end == stopping
    assert Counter(call.code().name for call in calls) == {"OK": 50}
    assert served.process.exit_code() == 0
    served.close()


def queued(served):
    text = served.process.ask("GET", "/metrics")[2].decode()
    lines = [line for line in text.splitlines() if line.startswith("inferd_queue_depth{") and 'model="gated"' in line]
    return sum(float(line.split()[-1]) for line in lines)


def status(answer):
    return message_class("grpc.health.v1.HealthCheckResponse").FromString(answer).status
