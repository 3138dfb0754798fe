"""No route answers without a key, except exactly the public ones; every registered route is walked."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from fronts_support import Double, Served, request
from starlette.routing import Mount

from inferd.server.guard import PUBLIC
from inferd.server.keys import append_key, new_key
from inferd.testing import Client

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """One key for each scope, and one that has expired."""
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    made = {}
    for scope in ("inference", "metrics", "admin"):
        made[scope], key = new_key(scope, [scope])
        append_key(path, key)
    made["expired"], key = new_key("expired", ["inference"], datetime.now(UTC) - timedelta(seconds=1))
    append_key(path, key)
    return path, made


@pytest.fixture(scope="module")
def client(secrets):
    with Client(Double(), name="double", api_keys_file=str(secrets[0])) as client:
        yield client


def registered_paths(assembly):
    """Every path that is answered, hot and cold; parameters filled in."""
    paths = {path.decode() for path in assembly.front.routes}
    for route in assembly.gateway._app.routes:
        path = re.sub(r"{version[^}]*}", "1", re.sub(r"{(?!version)[^}]*}", "double", route.path))
        paths.add(f"{path}/docs.js" if isinstance(route, Mount) else path)
    return sorted(paths)


def test_the_walk_sees_hot_routes_cold_routes_and_mounts(client):
    paths = registered_paths(client.assembly)
    for expected in (
        "/predict",
        "/models/double/versions/1/predict",
        "/model/info",
        "/metrics",
        "/docs",
        "/openapi.json",
    ):
        assert expected in paths
    assert any("assets" in path for path in paths)


def test_without_a_key_only_the_public_probes_answer(client):
    for path in [*registered_paths(client.assembly), "/nowhere", "/admin/models", "/v2/repository/index"]:
        for method in METHODS:
            reply = client.request(method, path, b"")
            if method == "GET" and path.encode() in PUBLIC:
                assert reply.status != 401, path
            else:
                assert reply.status == 401, (method, path, reply.status)
                assert reply.headers["www-authenticate"] == "Bearer"


def test_a_key_opens_its_own_scope_only(client, secrets):
    made = secrets[1]
    places = {"inference": "/model/info", "metrics": "/metrics", "admin": "/admin/models"}
    for scope in places:
        headers = {"Authorization": f"Bearer {made[scope]}"}
        for other, path in places.items():
            status = client.get(path, headers).status
            assert (status not in (401, 403)) if other == scope else status == 403, (scope, path, status)


@pytest.mark.parametrize("header", ["Authorization: Bearer {}", "X-API-Key: {}"])
@pytest.mark.parametrize("front", ["hot", "asgi"])
def test_both_fronts_take_a_key_in_either_header_and_refuse_without(secrets, front, header):
    path, made = secrets
    server = Served(Double(), front=front, api_keys_file=str(path))
    try:
        raw = request("/predict", b'{"instances": [[1, 2]]}')
        assert server.ask(raw).status == 401
        for secret, status in (
            ("wrong", 401),
            (made["expired"], 401),
            (made["metrics"], 403),
            (made["inference"], 200),
        ):
            keyed = request("/predict", b'{"instances": [[1, 2]]}', headers=[header.format(secret)])
            assert server.ask(keyed).status == status, secret
        wire = server.wire()
        keyed = request("/predict", b'{"instances": [[1, 2]]}', headers=[header.format(made["inference"])])
        assert [wire.send(keyed).read().status for _ in range(3)] == [200] * 3
        assert wire.send(raw).read().status == 401, "a key is not remembered by the connection"
    finally:
        server.stop()


@pytest.mark.parametrize(
    "path", ["//predict", "/./predict", "/health/../predict", "/%2e%2e/metrics", "/health%2f..%2fmetrics"]
)
def test_a_path_written_otherwise_reaches_no_other_scope(client, path):
    assert client.request("GET", path, b"").status in (400, 401)
