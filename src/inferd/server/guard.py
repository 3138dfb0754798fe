"""Who may ask for what: one synchronous check that every front makes before anything else.

Hot: without keys on loopback it is a few look-ups, 0.2 µs. Decisions are made on the path as the router will see it, so
percent-encoding cannot move a path to another scope, and a path with empty or dot segments is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from inferd.core.errors import MalformedRequest, PermissionDenied, Unauthenticated, UnsupportedMediaType
from inferd.protocols.shared.media import JSON_HINT

if TYPE_CHECKING:
    from inferd.server.keys import Key

PUBLIC = frozenset({b"/health", b"/ready", b"/v2/health/live", b"/v2/health/ready", b"/ping"})
"""What answers GET without a key; nothing else does."""
_ADMIN = (b"/admin", b"/v2/repository", b"/v2/logging")
_MEMORY = "memory"
_CONTROL = "control"
_NO_PAGES = frozenset({"admin", _CONTROL, _MEMORY})
_PLATFORM = frozenset({None, "inference", _CONTROL})
_NEEDED = {None: "inference", _MEMORY: "inference", _CONTROL: "admin"}
_UNNAMED = frozenset({b"", b"application/octet-stream"})
_READING = frozenset({b"GET", b"HEAD", b"OPTIONS"})
_PORT = re.compile(rb":[0-9]*\Z")
_REMEMBERED = 1024
"""How many hosts and paths a guard keeps its verdict of; both come from callers."""


def scope_of(path: bytes, control_paths: re.Pattern[bytes] | None = None) -> str | None:
    """The scope a path (raw, without its query) needs: "inference", "admin" or "metrics"; None when it is public.
    "memory" is inference's too, but no web page may ask for it where it needs no key. "control", admin's for who has a
    key, is what ``control_paths`` match.

    Raises ``MalformedRequest`` for empty, ``.`` or ``..`` segments: routers disagree about them.
    """
    path = unquote_to_bytes(path)
    if b"//" in path or any(segment in (b".", b"..") for segment in path.split(b"/")):
        raise MalformedRequest("the path holds an empty or dot segment")
    if path in PUBLIC:
        return None
    if path == b"/metrics":
        return "metrics"
    if path.startswith(b"/v2/systemsharedmemory"):
        return _MEMORY
    if control_paths is not None and control_paths.fullmatch(path):
        return _CONTROL
    is_admin = path.startswith(_ADMIN) or path.endswith(b"/trace/setting")
    return "admin" if is_admin else "inference"


def is_loopback(host: str) -> bool:
    """Whether binding to ``host`` is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def allowed_hosts(host: str) -> frozenset[bytes] | None:
    """Names a ``Host`` header may carry when bound to ``host``: on loopback its own, elsewhere any (None).

    Without this, a web page could point its own name at 127.0.0.1 and have the visitor's browser ask the server.
    """
    if not is_loopback(host):
        return None
    own = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return frozenset({b"localhost", b"127.0.0.1", b"[::1]", own.encode()})


def public_bind_refusal(host: str, keys: Sequence[Key], *, open_access: bool) -> str | None:
    """The sentence with which a server refuses to start on a public address that nobody guards, or None."""
    if keys or open_access or is_loopback(host):
        return None
    return (
        f"refusing to listen on {host} without API keys: anyone who reaches it could use it. "
        "Make a key with `inferd keys new` and pass --api-keys-file, or pass --open to serve everyone"
    )


class Guard:
    """Admits or refuses. Any thread may call it.

    ``open_access`` admits callers without a key, as long as there are no ``keys``. ``hosts`` are the names a ``Host``
    header may carry (lower case, without port); None means a public address, where any name is good.
    ``for_platform`` admits callers without a key, as long as there are no ``keys``, to everything but metrics and
    ``/admin``: only the platform reaches such a listener. ``control_paths`` match whole paths that need an admin's key.
    """

    def __init__(
        self,
        keys: Sequence[Key],
        *,
        open_access: bool,
        hosts: frozenset[bytes] | None,
        for_platform: bool = False,
        control_paths: str = "",
    ) -> None:
        self._keys = tuple(keys)
        self._anonymous = open_access and not keys
        self._for_platform = for_platform and not keys
        self._control_paths = re.compile(control_paths.encode()) if control_paths else None
        self._hosts = hosts
        self._good_hosts: set[bytes] = set()
        self._scopes: dict[bytes, str | None] = {}

    @property
    def needs_key(self) -> bool:
        """Whether callers are refused without a key, except where it is public."""
        return not self._anonymous

    def check(self, method: bytes, path: bytes, headers: Mapping[bytes, bytes]) -> str:
        """The principal: the id of the caller's key, "" for someone anonymous.

        ``path`` is raw and without its query, ``headers`` have lower-case names. Raises ``MalformedRequest`` for a
        path or host nobody should send, ``Unauthenticated``, ``PermissionDenied`` (the key lacks the scope), and
        ``UnsupportedMediaType`` for a change on loopback that a web page could have sent.
        """
        if self._hosts is not None and headers.get(b"host") not in self._good_hosts:
            self._check_host(headers)
        scope = self._scopes[path] if path in self._scopes else self._remember(path)
        if self._anonymous or (scope is None and method == b"GET"):
            if scope in _NO_PAGES and self._hosts is not None and method not in _READING:
                _require_json(headers)
            return ""
        if self._for_platform and scope in _PLATFORM:
            return ""
        key = self._authenticate(headers)
        needed = _NEEDED.get(scope) or str(scope)
        if needed not in key.scopes:
            raise PermissionDenied(f"the key {key.id!r} does not have the scope {needed!r}", expected=needed)
        return key.id

    def _remember(self, path: bytes) -> str | None:
        scope = scope_of(path, self._control_paths)
        if len(self._scopes) >= _REMEMBERED:
            self._scopes.clear()
        self._scopes[path] = scope
        return scope

    def _check_host(self, headers: Mapping[bytes, bytes]) -> None:
        host = headers.get(b"host")
        if host is None:  # HTTP/1.0; a browser always names one
            return
        if self._hosts is not None and _name(host) not in self._hosts:
            raise MalformedRequest(
                f"this server answers to localhost only, not to {host[:100].decode('latin-1')!r}",
                hint="bind it to an address with --host to serve it under another name",
            )
        if len(self._good_hosts) >= _REMEMBERED:
            self._good_hosts.clear()
        self._good_hosts.add(host)

    def _authenticate(self, headers: Mapping[bytes, bytes]) -> Key:
        secret = _presented(headers)
        if not secret:
            raise Unauthenticated("an API key is needed", hint="send Authorization: Bearer KEY, or X-API-Key: KEY")
        digest = hashlib.sha256(secret).hexdigest()
        known = None
        for key in self._keys:  # all of them: the time taken must not tell which one matched
            if hmac.compare_digest(key.sha256, digest):
                known = key
        if known is None:
            raise Unauthenticated("this API key is not known")
        if known.expires is not None and known.expires <= datetime.now(UTC):
            raise Unauthenticated(f"the key {known.id!r} expired at {known.expires.isoformat()}")
        return known


def _name(host: bytes) -> bytes:
    """The name in a ``Host`` header, in lower case and without its port."""
    return _PORT.sub(b"", host).lower()


def _presented(headers: Mapping[bytes, bytes]) -> bytes:
    scheme, _, secret = headers.get(b"authorization", b"").partition(b" ")
    return secret.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"").strip()


def _require_json(headers: Mapping[bytes, bytes]) -> None:
    """A web page may post forms and plain text anywhere, but JSON only where the server invited it.

    Clients that name no type, or bytes as aiohttp does by itself, are no web pages: a browser always names the page's
    origin beside a change (Fetch standard, "append a request Origin header"). A page of this server's own, such as its
    documents, may.
    """
    content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site", b"none")
    is_foreign = origin is not None and origin.partition(b"://")[2] != headers.get(b"host")
    from_page = is_foreign or site not in (b"none", b"same-origin")
    if content_type != b"application/json" and (content_type not in _UNNAMED or from_page):
        raise UnsupportedMediaType(
            "changes need Content-Type: application/json",
            got=content_type.decode("latin-1"),
            expected="application/json",
            **JSON_HINT,
        )
