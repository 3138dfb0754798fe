"""What each gRPC front owes a call: deadlines, cancellation, keys, limits, headers, streams, health, a graceful end."""

import signal
import subprocess
import threading
from hashlib import sha256

import grpc
import numpy as np
import pytest
import trustme
from grpc_support import SERVICE, Held, Served, gated_request, strict_request
from serve_support import Process, free_port

from inferd.protocols.grpc.schema import message_class, pool

HEALTH = "grpc.health.v1"


def counts(served):
    """Expired and cancelled requests in the gated model's queue."""
    text = served.process.ask("GET", "/metrics")[2].decode()
    lines = [line for line in text.splitlines() if 'model="gated"' in line and 'stage="queue"' in line]
    names = ("inferd_expired_total", "inferd_cancelled_total")
    return {name: sum(float(line.split()[-1]) for line in lines if line.startswith(name)) for name in names}


def test_a_deadline_takes_a_request_out_of_the_queue(served):
    with Held(served):
        before = counts(served)
        with pytest.raises(grpc.RpcError) as caught:
            served.method("ModelInfer")(gated_request(), timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        served.process.wait_for(lambda: sum(counts(served).values()) == sum(before.values()) + 1)


def test_a_caller_who_cancels_takes_its_request_out_of_the_queue(served):
    with Held(served):
        name, before = "inferd_cancelled_total", counts(served)
        second = served.method("ModelInfer").future(gated_request(), timeout=30)
        served.process.wait_for(lambda: _queued(served) == 1)
        second.cancel()
        served.process.wait_for(lambda: counts(served)[name] == before[name] + 1)
        assert _queued(served) == 0


def _queued(served):
    text = served.process.ask("GET", "/metrics")[2].decode()
    lines = [line for line in text.splitlines() if line.startswith("inferd_queue_depth{") and 'model="gated"' in line]
    return sum(float(line.split()[-1]) for line in lines)


def test_the_timeout_of_the_request_counts_too(served):
    with Held(served):
        request = message_class("inference.ModelInferRequest").FromString(gated_request())
        request.parameters["timeout"].int64_param = 100_000
        status, details, _ = served.infer(request)
        assert (status, "time ran out" in details) == ("DEADLINE_EXCEEDED", True)


def test_an_error_has_the_callers_request_id_in_its_metadata(served):
    with pytest.raises(grpc.RpcError) as caught:
        served.method("ModelInfer")(b"\xff", timeout=20, metadata=(("x-request-id", "mine-7"),))
    assert dict(caught.value.trailing_metadata())["x-request-id"] == "mine-7"


def test_what_there_is_not_is_unimplemented(served):
    for name, service in (("Nothing", SERVICE), ("ModelInfer", "other.Service")):
        with pytest.raises(grpc.RpcError) as caught:
            served.method(name, service)(b"", timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    call = served.channel.stream_stream("/other.Service/Stream")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(iter([b""]), timeout=20))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_compressed_messages_are_read(served):
    values = np.zeros((500, 2))
    answer = served.method("ModelInfer")(
        strict_request(values).SerializeToString(), timeout=20, compression=grpc.Compression.Gzip
    )
    assert list(message_class("inference.ModelInferResponse").FromString(answer).outputs[0].shape) == [500, 2]


def test_many_at_once_on_many_connections_get_their_own_answers(served):
    def ask(number):
        with grpc.insecure_channel(f"127.0.0.1:{served.port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
            method = channel.unary_unary(f"/{SERVICE}/ModelInfer")
            futures = [
                (each, method.future(strict_request([[each, number]], id=str(each)).SerializeToString(), timeout=30))
                for each in range(100)
            ]
            for each, future in futures:
                answer = message_class("inference.ModelInferResponse").FromString(future.result())
                values = np.frombuffer(answer.raw_output_contents[0], np.float32).tolist()
                assert (answer.id, values) == (str(each), [2 * each, 2 * number])
                done.append(number)

    done = []
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(10, 18)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 800


def health(served, service=""):
    request = message_class(f"{HEALTH}.HealthCheckRequest")(service=service).SerializeToString()
    answer = served.method("Check", f"{HEALTH}.Health")(request, timeout=20)
    return message_class(f"{HEALTH}.HealthCheckResponse").FromString(answer).status


def test_health_is_told_and_watched(served):
    assert health(served) == health(served, SERVICE) == 1
    with pytest.raises(grpc.RpcError) as caught:
        health(served, "other.Service")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watch = served.channel.stream_stream(f"/{HEALTH}.Health/Watch")(iter([b""]), timeout=20)
    assert message_class(f"{HEALTH}.HealthCheckResponse").FromString(next(watch)).status == 1
    watch.cancel()


def test_reflection_tells_the_services_and_their_files(served):
    package = "grpc.reflection.v1alpha"
    asked = message_class(f"{package}.ServerReflectionRequest")
    call = served.channel.stream_stream(f"/{package}.ServerReflection/ServerReflectionInfo")
    requests = [asked(list_services=""), asked(file_containing_symbol=SERVICE), asked(file_by_filename="nowhere.proto")]
    answers = [
        message_class(f"{package}.ServerReflectionResponse").FromString(each)
        for each in call(iter([each.SerializeToString() for each in requests]), timeout=20)
    ]
    names = {service.name for service in answers[0].list_services_response.service}
    assert {SERVICE, f"{HEALTH}.Health"} <= names
    files = answers[1].file_descriptor_response.file_descriptor_proto
    assert files[0] == pool().FindFileContainingSymbol(SERVICE).serialized_pb
    assert answers[2].error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.fixture(scope="module", params=["grpcio", "native"])
def strict(request, tmp_path_factory):
    """A server with keys and a small limit."""
    keys = (f"{name}:{name}:{sha256(f'{name}-key'.encode()).hexdigest()}" for name in ("inference", "metrics"))
    flags = ("--grpc-front", request.param, "--grpc-max-message-mb", "0.01", "--access-log")
    env = {"INFERD_API_KEYS": ",".join(keys)}
    server = Served(tmp_path_factory.mktemp("strict"), *flags, env=env)
    yield server
    server.close()


def ask(served, request, *metadata):
    return served.infer(request, metadata=metadata)[:2]


def test_a_key_is_asked_for_and_its_scope_counts(strict):
    assert ask(strict, strict_request())[0] == "UNAUTHENTICATED"
    assert ask(strict, strict_request(), ("authorization", "Bearer nonsense"))[0] == "UNAUTHENTICATED"
    assert ask(strict, strict_request(), ("x-api-key", "metrics-key"))[0] == "PERMISSION_DENIED"
    assert ask(strict, strict_request(), ("authorization", "Bearer inference-key"))[0] == "OK"
    assert health(strict) == 1
    call = strict.channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(iter([strict_request().SerializeToString()]), timeout=20))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_message_over_the_limit_is_refused_and_the_next_one_answered(strict):
    key = ("authorization", "Bearer inference-key")
    assert ask(strict, strict_request(np.zeros((5000, 2))), key)[0] == "RESOURCE_EXHAUSTED"
    assert ask(strict, strict_request(), key)[0] == "OK"


def test_a_call_leaves_a_line_in_the_access_log(strict):
    key = (("authorization", "Bearer inference-key"), ("x-request-id", "logged-once"))
    assert ask(strict, strict_request(), *key)[0] == "OK"
    strict.process.wait_for(lambda: strict.process.output.count("logged-once") == 1)


@pytest.mark.parametrize("front", ["grpcio", "aio", "native"])
def test_what_was_accepted_is_answered_before_the_server_ends(tmp_path, front):
    served = Served(tmp_path, "--grpc-front", front)
    with Held(served) as held:
        served.process.signal(signal.SIGTERM)
        served.process.wait_for(lambda: refused(served))
        assert not held.first.done()
    assert served.process.exit_code() == 0
    served.close()


def refused(served):
    """Whether a new call finds no server, or one that stops."""
    with grpc.insecure_channel(f"127.0.0.1:{served.port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            channel.unary_unary(f"/{SERVICE}/ModelInfer")(gated_request(), timeout=0.3)
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.UNAVAILABLE
    return False


@pytest.mark.parametrize("front", ["grpcio", "aio", "native"])
def test_a_port_that_is_taken_is_an_error_that_names_it(tmp_path, front, served):
    (tmp_path / "strict.py").write_text((served.folder / "strict.py").read_text())
    flags = ("--grpc-front", front, "--grpc-port", served.port, "--state-file", tmp_path / "state.db")
    with Process(tmp_path, "serve", "strict.py:Model", *flags) as process:
        assert process.exit_code() != 0
        assert f"cannot listen on 127.0.0.1:{served.port} for gRPC" in process.output


@pytest.mark.parametrize("front", ["grpcio", "aio"])
def test_calls_come_over_tls_with_the_servers_certificate(tmp_path, front, served):
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    (tmp_path / "strict.py").write_text((served.folder / "strict.py").read_text())
    port = free_port()
    flags = ("--grpc-front", front, "--tls-certificate", "certificate.pem", "--tls-key", "key.pem")
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    body = strict_request().SerializeToString()
    with (
        Process(tmp_path, "serve", "strict.py:Model", "--grpc-port", port, *flags) as process,
        grpc.secure_channel(f"localhost:{port}", credentials) as channel,
    ):
        process.wait_for(lambda: "Listening on https://" in process.output)
        answer = channel.unary_unary(f"/{SERVICE}/ModelInfer")(body, timeout=20)
        assert message_class("inference.ModelInferResponse").FromString(answer).model_name == "strict"
        (streamed,) = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(iter([body]), timeout=20)
        assert message_class("inference.ModelStreamInferResponse").FromString(streamed).error_message == ""
        assert process.signal().exit_code() == 0


def test_the_native_front_refuses_what_it_has_not(tmp_path, served):
    (tmp_path / "strict.py").write_text((served.folder / "strict.py").read_text())
    create = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out certificate.pem"
    )
    subprocess.run(create.split(), cwd=tmp_path, check=True, capture_output=True)
    flags = ("--grpc-front", "native", "--tls-certificate", "certificate.pem", "--tls-key", "key.pem")
    with Process(tmp_path, "serve", "strict.py:Model", *flags) as process:
        assert process.exit_code() != 0
        assert "--grpc-front native has no TLS" in process.output
