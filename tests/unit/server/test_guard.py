import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from inferd.core.errors import MalformedRequest, PermissionDenied, Unauthenticated, UnsupportedMediaType
from inferd.server.guard import PUBLIC, Guard, allowed_hosts, public_bind_refusal, scope_of

LOOPBACK = allowed_hosts("127.0.0.1")


@dataclass(frozen=True)
class AKey:
    id: str
    scopes: frozenset[str]
    sha256: str
    expires: datetime | None = None


def key(secret: str, *scopes: str, expires: datetime | None = None) -> AKey:
    return AKey(f"id-{secret}", frozenset(scopes), hashlib.sha256(secret.encode()).hexdigest(), expires)


def guarded(*keys: AKey) -> Guard:
    return Guard(keys, open_access=False, hosts=None)


def bearer(secret: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + secret.encode()}


def test_without_keys_loopback_admits_everyone_to_everything():
    guard = Guard((), open_access=True, hosts=LOOPBACK)
    for path in (b"/predict", b"/metrics", b"/admin/models", b"/health"):
        assert guard.check(b"GET", path, {b"host": b"127.0.0.1:8000"}) == ""


def test_without_keys_and_not_open_only_public_paths_answer():
    guard = guarded()
    assert guard.check(b"GET", b"/health", {}) == ""
    with pytest.raises(Unauthenticated):
        guard.check(b"POST", b"/predict", bearer("anything"))


def test_keys_are_demanded_even_where_access_would_be_open():
    guard = Guard((key("a", "inference"),), open_access=True, hosts=None)
    with pytest.raises(Unauthenticated, match="an API key is needed"):
        guard.check(b"POST", b"/predict", {})


@pytest.mark.parametrize(
    "headers",
    [
        bearer("a"),
        {b"authorization": b"bearer  a "},
        {b"x-api-key": b"a"},
        {b"authorization": b"Basic eA==", b"x-api-key": b"a"},
    ],
)
def test_a_key_comes_as_a_bearer_token_or_in_its_own_header(headers):
    assert guarded(key("a", "inference")).check(b"POST", b"/predict", headers) == "id-a"


@pytest.mark.parametrize(
    "headers", [{}, {b"authorization": b"Basic a"}, {b"authorization": b"Bearer"}, {b"x-api-key": b""}]
)
def test_no_key_is_refused_with_the_way_to_send_one(headers):
    with pytest.raises(Unauthenticated) as refusal:
        guarded(key("a", "inference")).check(b"POST", b"/predict", headers)
    assert "X-API-Key" in str(refusal.value.details["hint"])


def test_an_unknown_key_is_refused():
    with pytest.raises(Unauthenticated, match="not known"):
        guarded(key("a", "inference")).check(b"POST", b"/predict", bearer("b"))


def test_several_keys_are_good_at_once_while_they_are_rotated():
    guard = guarded(key("old", "inference"), key("new", "inference"))
    assert [guard.check(b"POST", b"/predict", bearer(secret)) for secret in ("old", "new")] == ["id-old", "id-new"]


def test_an_expired_key_is_refused_with_its_date():
    now = datetime.now(UTC)
    guard = guarded(
        key("old", "inference", expires=now - timedelta(days=1)),
        key("new", "inference", expires=now + timedelta(days=1)),
    )
    with pytest.raises(Unauthenticated, match=r"'id-old' expired at \d{4}-\d\d-\d\d"):
        guard.check(b"POST", b"/predict", bearer("old"))
    assert guard.check(b"POST", b"/predict", bearer("new")) == "id-new"


@pytest.mark.parametrize("scope", ["inference", "admin", "metrics"])
@pytest.mark.parametrize(
    ("path", "needed"),
    [
        (b"/predict", "inference"),
        (b"/models/iris/predict", "inference"),
        (b"/docs", "inference"),
        (b"/v2/models/iris/infer", "inference"),
        (b"/metrics", "metrics"),
        (b"/admin/models", "admin"),
        (b"/v2/repository/index", "admin"),
    ],
)
def test_a_key_opens_its_own_scope_and_no_other(scope, path, needed):
    guard = guarded(key("a", scope))
    if scope == needed:
        assert guard.check(b"GET", path, bearer("a")) == "id-a"
    else:
        with pytest.raises(PermissionDenied, match=needed):
            guard.check(b"GET", path, bearer("a"))


@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_a_public_path_is_public_for_get_alone(path):
    guard = guarded(key("a", "inference"))
    assert guard.check(b"GET", path, {}) == ""
    for method in (b"POST", b"DELETE", b"HEAD"):
        with pytest.raises(Unauthenticated):
            guard.check(method, path, {})


@pytest.mark.parametrize(
    "path", [b"/health/", b"/health/x", b"/Health", b"/healthz", b"/ping/admin", b"/v2/health", b"/", b""]
)
def test_what_only_looks_like_a_public_path_is_not(path):
    assert scope_of(path) == "inference"


@pytest.mark.parametrize(
    "path", [b"/admin", b"/admin/", b"/%61dmin/models", b"/admin%2Fmodels", b"/v2/%72epository/index"]
)
def test_encoding_does_not_move_a_path_out_of_the_admin_scope(path):
    assert scope_of(path) == "admin"


@pytest.mark.parametrize(
    "path",
    [
        b"//admin",
        b"/predict//x",
        b"/health/../admin",
        b"/./admin",
        b"/%2e%2e/admin",
        b"/health%2F..%2Fadmin",
        b"/%2Fadmin",
    ],
)
def test_empty_and_dot_segments_are_refused(path):
    with pytest.raises(MalformedRequest):
        guarded(key("a", "inference")).check(b"GET", path, bearer("a"))


def test_dots_within_a_name_are_fine():
    assert scope_of(b"/models/iris.v2..final/predict") == "inference"


@pytest.mark.parametrize("host", [b"localhost", b"LOCALHOST:8000", b"127.0.0.1:8000", b"[::1]", b"[::1]:8000"])
def test_loopback_answers_to_its_own_names(host):
    guard = Guard((), open_access=True, hosts=LOOPBACK)
    for _ in range(2):
        assert guard.check(b"POST", b"/predict", {b"host": host}) == ""


@pytest.mark.parametrize(
    "host",
    [b"evil.example", b"evil.example:8000", b"localhost.evil.example", b"[::1].evil.example", b"", b"[", b"\xff"],
)
def test_loopback_refuses_a_name_that_is_not_its_own(host):
    guard = Guard((), open_access=True, hosts=LOOPBACK)
    for _ in range(2):
        with pytest.raises(MalformedRequest, match="localhost only"):
            guard.check(b"POST", b"/predict", {b"host": host})


def test_a_public_address_answers_to_any_name():
    guard = Guard((key("a", "inference"),), open_access=False, hosts=allowed_hosts("0.0.0.0"))
    assert guard.check(b"POST", b"/predict", bearer("a") | {b"host": b"models.example"}) == "id-a"


@pytest.mark.parametrize(
    "content_type",
    [None, b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data", b"application/octet-stream"],
)
def test_a_web_page_cannot_change_models_on_loopback(content_type):
    guard = Guard((), open_access=True, hosts=LOOPBACK)
    headers = {b"host": b"localhost", b"origin": b"http://page.example"}
    headers |= {b"content-type": content_type} if content_type else {}
    for method in (b"POST", b"PUT", b"DELETE", b"PATCH"):
        with pytest.raises(UnsupportedMediaType):
            guard.check(method, b"/admin/models/iris/unload", headers)
    assert guard.check(b"GET", b"/admin/models", headers) == ""


def test_a_client_that_names_no_type_or_bytes_is_no_web_page():
    guard = Guard((), open_access=True, hosts=LOOPBACK)
    assert guard.check(b"POST", b"/v2/repository/index", {b"host": b"localhost"}) == ""
    octets = {b"host": b"localhost", b"content-type": b"application/octet-stream"}  # what aiohttp says by itself
    assert guard.check(b"POST", b"/v2/repository/index", octets) == ""
    own = {b"origin": b"http://localhost:8000", b"sec-fetch-site": b"same-origin", b"host": b"localhost:8000"}
    assert guard.check(b"POST", b"/v2/repository/index", own) == ""
    foreign = ({b"origin": b"http://localhost:3000"}, {b"origin": b"null"}, {b"sec-fetch-site": b"same-site"})
    for mark in (*foreign, {b"sec-fetch-site": b"cross-site"}, {b"content-type": b"text/plain"}):
        with pytest.raises(UnsupportedMediaType):
            guard.check(b"POST", b"/v2/repository/index", {b"host": b"localhost", **mark})


def test_a_change_sent_as_json_is_admitted_on_loopback():
    guard = Guard((), open_access=True, hosts=LOOPBACK)
    headers = {b"host": b"localhost", b"content-type": b"Application/JSON; charset=utf-8"}
    assert guard.check(b"POST", b"/admin/models/iris/load", headers) == ""


def test_what_callers_invent_is_remembered_only_up_to_a_bound():
    guard = Guard((), open_access=True, hosts=LOOPBACK)
    for number in range(5000):
        guard.check(b"POST", b"/models/%d/predict" % number, {b"host": b"localhost:%d" % number})
    assert len(guard._scopes) <= 1024
    assert len(guard._good_hosts) <= 1024


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.5", "::1", "[::1]", "localhost"])
def test_a_loopback_bind_needs_no_keys_and_answers_to_its_own_address(host):
    assert public_bind_refusal(host, (), open_access=False) is None
    hosts = allowed_hosts(host)
    assert hosts is not None
    assert host.strip("[]").encode() in {name.strip(b"[]") for name in hosts}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.7", "models.example"])
def test_a_public_bind_needs_keys_or_says_open(host):
    assert "--open" in (public_bind_refusal(host, (), open_access=False) or "")
    assert public_bind_refusal(host, (), open_access=True) is None
    assert public_bind_refusal(host, (key("a", "inference"),), open_access=False) is None
