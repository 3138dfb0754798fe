"""Shadow traffic of a real server: on both fronts, over all protocols, through restarts and the end."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from serve_support import Process, free_port

MODEL = """
import time
from pathlib import Path
import numpy as np

class Model:
    inputs = {"x": "FP32[-1, 1]"}
    outputs = {"y": "FP32[-1]"}
    batchable = True
    here = Path(__file__).parent

    def predict(self, x: np.ndarray) -> np.ndarray:
        BODY
"""
BODIES = {
    1: "return x[:, 0] * 2",
    2: "return np.where(x[:, 0] % 10 == 7, 0, x[:, 0] * 2).astype(np.float32)",
    3: """(self.here / "entered").touch()
        while (self.here / "hold").exists():
            time.sleep(0.005)
        return x[:, 0] * 2""",
    4: """if (self.here / "broken").exists():
            raise RuntimeError("boom")
        return x[:, 0] * 2""",
}
SHADOW = """\
id = "next"
model = "ranker"
mode = "shadow"
[[variant]]
name = "primary"
target = "ranker@1"
"""
VARIANT = """\
[[variant]]
name = "v{0}"
target = "ranker@{0}"
"""
ONE = "/admin/experiments/next"


@pytest.fixture
def folder(tmp_path):
    for version, body in BODIES.items():
        (tmp_path / "models" / "ranker" / str(version)).mkdir(parents=True)
        (tmp_path / "models" / "ranker" / str(version) / "model.py").write_text(MODEL.replace("BODY", body))
    (tmp_path / "experiments").mkdir()
    return tmp_path


@pytest.fixture
def serve(folder):
    """Start a server whose version 1 has the other ``versions`` as shadows."""

    def serve(*versions, settings="", flags=(), definition=None):
        text = definition or SHADOW + "".join(map(VARIANT.format, versions))
        (folder / "experiments" / "next.toml").write_text(text + settings)
        command = ("serve", "models", "--version-policy", "all", "--experiments", "experiments", *flags)
        grpc = () if "--grpc-port" in flags else ("--grpc-port", "0")
        process = Process(folder, *command, *grpc)
        process.wait_ready()
        label = "/admin/models/ranker/labels/default"
        assert process.ask("PUT", label, '{"version": 1}', {"Content-Type": "application/json"})[0] == 200
        (folder / "models" / "ranker" / "4" / "broken").touch()
        process.ask("POST", f"{ONE}/start", "")
        found = process.json(ONE)
        assert found["state"] == "running", found["reason"]
        return process

    return serve


@pytest.fixture(params=["hot", "asgi"])
def front(request):
    return ("--front", request.param)


def counts(process, variant):
    return process.json(ONE)["shadows"][variant]


def settled(process, variant, **expected):
    """Once nothing runs any more, and the counts are as expected."""
    wanted = {**dict.fromkeys(("equal", "different", "failed", "shed", "unavailable", "running"), 0), **expected}
    process.wait_for(lambda: counts(process, variant) == wanted)


def report(process):
    return process.json(f"{ONE}/report")


def printed_by(process, *arguments):
    code, out, err = process.command("experiment", *arguments)
    assert code == 0, err
    return out


def inflight(process):
    lines = process.ask("GET", "/metrics")[2].decode().splitlines()
    return [float(line.split()[-1]) for line in lines if line.startswith('inferd_inflight{model="ranker"')]


def test_exactly_the_rows_that_differ_are_reported(serve, front):
    with serve(2, 4, flags=front) as process:
        for first in range(0, 40, 4):
            rows = [[first + n] for n in range(4)]
            status, headers, body = process.predict(rows)
            assert (status, json.loads(body)["predictions"]) == (200, [2 * row for (row,) in rows])
            assert not any(name.startswith("inferd-") for name in headers if "model" not in name), headers
            process.wait_for(lambda: counts(process, "v2")["running"] == 0)
        settled(process, "v2", equal=6, different=4)
        settled(process, "v4", failed=10)
        found = report(process)
        assert set(found) == {
            *("experiment", "model", "mode", "control", "sample", "rtol", "atol", "alpha", "shadows"),
        }, "there is nothing to tell of an A/B test"
        one, other = found["shadows"]
        rows = [row for each in one["disagreements"] for row in each["rows"]]
        assert [row["inputs"]["x"] for row in rows] == [[7], [17], [27], [37]]
        assert [row["control"]["y"] for row in rows] == [14, 34, 54, 74]
        assert [row["variant"]["y"] for row in rows] == [0, 0, 0, 0]
        assert (one["compared"], one["equal"], one["equal_share"]) == (10, 6, 0.6)
        assert one["anytime"]["low"] < one["fixed"]["low"] < 0.6 < one["fixed"]["high"] < one["anytime"]["high"]
        assert one["largest"] == {"p50": 0, "p95": 74, "p99": 74}
        assert (other["compared"], other["failed"]) == (0, {"internal": 10})
        printed = printed_by(process, "report", "--experiment", "next")
        assert "v2 (ranker@2) beside control, request by request\n  60% of 10 answers equal control's" in printed
        assert "10 failed: internal" in printed
        assert '{"row": 3, "inputs": {"x": [7.0]}, "control": {"y": 14.0}, "variant": {"y": 0.0}}' in printed
        assert "v2 (ranker@2) beside control: 6 equal, 4 different" in printed_by(process, "show", "next")
        page = process.ask("GET", f"{ONE}/report", headers={"Accept": "text/html"})[2].decode()
        assert "v2 beside control, request by request" in page
        assert "4 of 4 kept disagreements" in page
        scraped = process.ask("GET", "/metrics")[2].decode()
        assert 'inferd_shadow_total{experiment="next",variant="v2",result="different"} 4' in scraped
        assert 'inferd_shadow_total{experiment="next",variant="v4",result="failed"} 10' in scraped
        assert inflight(process) == [0, 0, 0, 0]
        assert process.predict([["text"]])[0] == 422


def test_a_held_shadow_and_one_that_raises_leave_answers_order_and_count_as_they_are(serve, front, folder):
    held = folder / "models" / "ranker" / "3"
    with serve(3, 4, settings="[shadow]\nmax_concurrency = 2\n", flags=front) as process:
        (held / "hold").touch()

        def ask_in_turn(caller):
            return [json.loads(process.predict([[100 * caller + n]])[2])["predictions"] for n in range(10)]

        with ThreadPoolExecutor(4) as callers:
            answers = list(callers.map(ask_in_turn, range(4)))
        assert answers == [[[2 * (100 * caller + n)] for n in range(10)] for caller in range(4)]
        assert (held / "entered").exists()
        assert counts(process, "v3") == {
            **{"equal": 0, "different": 0, "failed": 0, "unavailable": 0},
            "shed": 38,
            "running": 2,
        }
        assert sum(inflight(process)) >= 2
        (held / "hold").unlink()
        settled(process, "v3", equal=2, shed=38)
        process.wait_for(lambda: inflight(process) == [0, 0, 0, 0])
        raised = counts(process, "v4")
        assert raised["failed"] + raised["shed"] == 40
        assert raised["failed"] > 0
        (three, _) = report(process)["shadows"]
        assert (three["compared"], three["shed"]) == (2, 38)
        scraped = process.ask("GET", "/metrics")[2].decode()
        ok = 'inferd_requests_total{model="ranker",version="1",protocol="native",outcome="ok"} 40'
        assert ok in scraped
        assert 'inferd_requests_total{model="ranker",version="3"' not in scraped


def test_a_restart_keeps_the_report(serve):
    with serve(2) as process:
        for n in (1, 7):
            process.predict([[n]])
        settled(process, "v2", equal=1, different=1)
        before = report(process)
        assert process.signal().exit_code() == 0
    with serve(2) as process:
        assert report(process) == before
        process.predict([[3]])
        settled(process, "v2", equal=1)
        assert report(process)["shadows"][0]["compared"] == 3


def test_what_was_shed_outlives_the_server(serve, folder):
    held = folder / "models" / "ranker" / "3"
    with serve(3, settings="[shadow]\nmax_concurrency = 1\n") as process:
        (held / "hold").touch()
        for n in range(5):
            process.predict([[n]])
        (held / "hold").unlink()
        settled(process, "v3", equal=1, shed=4)
        assert process.signal().exit_code() == 0
    with serve(3) as process:
        (found,) = report(process)["shadows"]
        assert (found["compared"], found["shed"]) == (1, 4)


def test_the_end_of_the_server_waits_for_no_shadow(serve, folder):
    held = folder / "models" / "ranker" / "3"
    with serve(3, flags=("--drain-timeout-s", "3600")) as process:
        (held / "hold").touch()
        assert process.predict([[1]])[0] == 200
        assert process.predict([[2]])[0] == 200
        process.wait_for((held / "entered").exists)
        assert process.signal().exit_code() == 0
        assert (held / "hold").exists(), "it was held to the end"
        assert "shadow requests were still running" in process.output
        assert "Traceback" not in process.output


def test_a_version_is_unloaded_after_its_shadows_and_the_experiment_says_why_it_stopped(serve, folder):
    held = folder / "models" / "ranker" / "3"
    with serve(3, settings="[shadow]\nmax_concurrency = 4\n") as process:
        (held / "entered").unlink(missing_ok=True)
        (held / "hold").touch()
        for n in range(3):
            process.predict([[n]])
        process.wait_for((held / "entered").exists)
        assert process.ask("POST", "/admin/models/ranker/versions/3/unload?wait=false", "")[0] in (200, 202)

        def state():
            (one,) = [each for each in process.json("/admin/models/ranker")["versions"] if each["version"] == 3]
            return one["state"]

        process.wait_for(lambda: state() == "DRAINING")
        assert json.loads(process.predict([[5]])[2])["predictions"] == [10]
        (held / "hold").unlink()
        process.wait_for(lambda: state() == "UNLOADED")
        process.wait_for(lambda: counts(process, "v3")["running"] == 0)
        told = counts(process, "v3")
        assert told["equal"] >= 1, "what ran was compared"
        assert told["equal"] + told["unavailable"] == sum(told.values())


def test_primaries_of_v2_and_grpc_have_shadows_too(serve):
    import tritonclient.grpc as triton
    import tritonclient.http as triton_http

    port = free_port()
    with serve(2, flags=("--grpc-port", str(port))) as process:
        rows = np.array([[7], [8]], np.float32)

        def tensor(module):
            tensor = module.InferInput("x", rows.shape, "FP32")
            tensor.set_data_from_numpy(rows)
            return tensor

        with triton_http.InferenceServerClient(f"127.0.0.1:{process.port}") as client:
            assert client.infer("ranker", [tensor(triton_http)]).as_numpy("y").tolist() == [14, 16]
        settled(process, "v2", different=1)
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
            assert client.infer("ranker", [tensor(triton)]).as_numpy("y").tolist() == [14, 16]
            settled(process, "v2", different=2)
            got, arrived = [], threading.Event()
            client.start_stream(lambda result, error: (got.append((result, error)), arrived.set()))
            client.async_stream_infer("ranker", [tensor(triton)])
            assert arrived.wait(30)
            client.stop_stream()
            assert got[0][1] is None
        settled(process, "v2", different=3)
        assert process.predict([[7]], path="/v1/models/ranker:predict")[0] == 200
        settled(process, "v2", different=4)
        rows = [row for each in report(process)["shadows"][0]["disagreements"] for row in each["rows"]]
        assert [(row["row"], row["inputs"]["x"]) for row in rows] == [(0, [7])] * 4


AB = """\
id = "next"
model = "ranker"
unit = "header:X-User"
[[variant]]
name = "control"
target = "ranker@1"
[[variant]]
name = "treated"
target = "ranker@2"
[[metric]]
name = "click"
kind = "mean"
[[guardrail]]
metric = "disagreement"
limit = 0.001
[shadow]
max_concurrency = 100
"""


def test_an_ab_test_tells_how_often_the_variant_disagrees_with_control(serve):
    with serve(definition=AB) as process:
        variants = [process.predict([[number]], X_User=f"user-{number}")[1]["inferd-variant"] for number in range(120)]
        treated = [number for number, variant in enumerate(variants) if variant == "treated"]
        wrong = [number for number in treated if number % 10 == 7]
        assert wrong
        settled(process, "treated", different=len(wrong), equal=len(treated) - len(wrong))
        found = report(process)
        assert found["units"] == 120
        (one,) = found["shadows"]
        assert (one["compared"], one["equal"]) == (len(treated), len(treated) - len(wrong))
        rows = [row for each in one["disagreements"] for row in each["rows"]]
        assert sorted(row["inputs"]["x"][0] for row in rows) == wrong
        assert [row["control"]["y"] for row in rows] == [2 * row["inputs"]["x"][0] for row in rows]
        (rail,) = found["guardrails"]
        assert (rail["metric"], rail["conclusion"]) == ("disagreement", "broken")
        assert rail["observed"] == len(wrong) / len(treated)
        printed = printed_by(process, "report", "--experiment", "next")
        assert "treated (ranker@2) beside control, request by request" in printed
        page = process.ask("GET", f"{ONE}/report", headers={"Accept": "text/html"})[2].decode()
        assert "treated beside control, request by request" in page
        assert "click: treated" in page


def test_streams_are_refused_as_shadows_with_the_reason(serve, folder):
    code = MODEL.replace("BODY", "yield x[:, 0] * 2").replace("-> np.ndarray", "-> Iterator[np.ndarray]")
    code = code.replace("import time", "import time\nfrom collections.abc import Iterator").replace(
        "    batchable = True\n", ""
    )
    (folder / "models" / "ranker" / "2" / "model.py").write_text(code)
    with pytest.raises(AssertionError, match="answers in streams, which cannot be compared"), serve(2):
        pass
