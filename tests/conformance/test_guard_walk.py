"""No route answers without a key, except exactly the public ones; every registered route is walked."""

import http.client
import re
from datetime import UTC, datetime, timedelta

import pytest
from fronts_support import Double, Served, request
from starlette.routing import Mount

from inferd.server.keys import append_key, new_key
from inferd.testing import Client

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# Written out here, so that a path that becomes public by mistake is seen.
PUBLIC = {"/health", "/ready", "/v2/health/live", "/v2/health/ready", "/ping"}
SCOPES = ("inference", "metrics", "admin")
UNREGISTERED = ("/nowhere", "/admin", "/admin/models", "/admin/models/double/unload", "/v2/repository/index")


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """One key for each scope, and one that has expired."""
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    made = {}
    for scope in SCOPES:
        made[scope], key = new_key(scope, [scope])
        append_key(path, key)
    made["expired"], key = new_key("expired", SCOPES, datetime.now(UTC) - timedelta(seconds=1))
    append_key(path, key)
    return path, made


@pytest.fixture(scope="module")
def client(secrets):
    with Client(Double(), name="double", api_keys_file=str(secrets[0])) as client:
        yield client


@pytest.fixture(scope="module", params=["in process", "hot", "asgi"])
def ask(request, client, secrets):
    """``ask(method, path, headers)`` gives status and headers, in this process or over a socket on either front."""
    if request.param == "in process":

        def ask_in_process(method, path, headers):
            reply = client.request(method, path, b"", headers)
            return reply.status, reply.headers

        yield ask_in_process
        return
    server = Served(Double(), front=request.param, api_keys_file=str(secrets[0]))
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)

    def ask_over_a_socket(method, path, headers):
        connection.request(method, path, b"", headers)
        response = connection.getresponse()
        response.read()
        return response.status, {name.lower(): value for name, value in response.getheaders()}

    yield ask_over_a_socket
    connection.close()
    server.stop()


def registered_paths(assembly):
    """Every path that is answered, hot and cold; parameters filled in."""
    paths = {path.decode() for path in assembly.front.routes}
    for route in assembly.gateway._app.routes:
        path = re.sub(r"{version[^}]*}", "1", re.sub(r"{(?!version)[^}]*}", "double", route.path))
        paths.add(f"{path}/docs.js" if isinstance(route, Mount) else path)
    return sorted(paths)


def walk(client):
    return [(method, path) for path in (*registered_paths(client.assembly), *UNREGISTERED) for method in METHODS]


def needed(path):
    if path == "/metrics":
        return "metrics"
    is_admin = path.startswith(("/admin", "/v2/repository", "/v2/logging")) or path.endswith("/trace/setting")
    return "admin" if is_admin else "inference"


def is_public(method, path):
    return method == "GET" and path in PUBLIC


def test_the_walk_sees_hot_routes_cold_routes_and_mounts(client):
    paths = registered_paths(client.assembly)
    for expected in (
        "/predict",
        "/models/double/versions/1/predict",
        "/model/info",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/docs/assets/docs.js",
    ):
        assert expected in paths


@pytest.mark.parametrize("secret", ["none", "unknown", "expired"])
def test_without_a_good_key_only_the_public_probes_answer(client, ask, secrets, secret):
    given = {"none": {}, "unknown": {"X-API-Key": "guess"}, "expired": {"X-API-Key": secrets[1]["expired"]}}[secret]
    for method, path in walk(client):
        status, headers = ask(method, path, given)
        if is_public(method, path):
            assert status not in (401, 403), path
        else:
            assert status == 401, (method, path, status)
            assert headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("scope", SCOPES)
def test_a_key_opens_its_own_scope_and_no_other(client, ask, secrets, scope):
    given = {"Authorization": f"Bearer {secrets[1][scope]}"}
    for method, path in walk(client):
        status, _ = ask(method, path, given)
        if is_public(method, path) or needed(path) == scope:
            assert status not in (401, 403), (method, path, status)
        else:
            assert status == 403, (method, path, status)


@pytest.mark.parametrize("header", ["Authorization: Bearer {}", "X-API-Key: {}"])
@pytest.mark.parametrize("front", ["hot", "asgi"])
def test_each_request_of_a_connection_shows_its_own_key(secrets, front, header):
    path, made = secrets
    server = Served(Double(), front=front, api_keys_file=str(path))
    try:
        raw = request("/predict", b'{"instances": [[1, 2]]}')
        keyed = request("/predict", b'{"instances": [[1, 2]]}', headers=[header.format(made["inference"])])
        wire = server.wire()
        assert [wire.send(keyed).read().status for _ in range(3)] == [200] * 3
        assert wire.send(raw).read().status == 401, "a key is not remembered by the connection"
    finally:
        server.stop()


@pytest.mark.parametrize(
    "path", ["//predict", "/./predict", "/health/../predict", "/%2e%2e/metrics", "/health%2f..%2fmetrics", "/Health"]
)
def test_a_path_written_otherwise_reaches_nothing(ask, path):
    assert ask("GET", path, {})[0] in (400, 401)


CONTROL = {
    "sagemaker": {"/models", "/models/double"},
    "vertex": set(),
    "mlflow": set(),
    "torchserve": set(),
    "torchserve-management": {
        "/models",
        "/models/double",
        "/models/double/1",
        "/models/double/1/set-default",
    },
}


@pytest.mark.parametrize("door", CONTROL)
def test_a_doors_control_routes_need_an_admins_key_and_its_others_one_for_inference(secrets, door):
    path, made = secrets
    with Client(Double(), name="double", api_keys_file=str(path), protocols=(door,)) as client:
        walked = [*walk(client), *(("POST", each) for each in CONTROL[door])]
        assert {each for _, each in walked} >= CONTROL[door]
        for method, each in walked:
            open_to = "admin" if each in CONTROL[door] else needed(each)
            for scope in ("none", *SCOPES):
                given = {"X-API-Key": made[scope]} if scope in made else {}
                status = client.request(method, each, b"", given).status
                refused = 401 if scope == "none" else 403
                if is_public(method, each) or scope == open_to:
                    assert status not in (401, 403), (method, each, scope, status)
                else:
                    assert status == refused, (method, each, scope, status)
