"""An endpoint of Azure's Blob service for tests, as far as reading and writing whole blobs goes.

Microsoft's own emulator, Azurite, needs Node.js, and none comes as a Python package. Azure's clients talk to this one
as to the service: requests must be signed with the account's key, listings come in pages, parts of a blob by range.
Source: https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import threading
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

ACCOUNT = "devstoreaccount1"
KEY = base64.b64encode(b"the key of the account of the tests").decode()
PAGE = 5000
XML = '<?xml version="1.0" encoding="utf-8"?>'
FORGED = (
    "Server failed to authenticate the request. "
    "Make sure the value of the Authorization header is formed correctly including the signature."
)
_SIGNED = ("Encoding", "Language", "Length", "MD5", "Type")
_CONDITIONS = ("Date", "If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range")
_etags = itertools.count(1)


@dataclass(frozen=True)
class Blob:
    body: bytes
    etag: str
    modified: str

    def headers(self):
        md5 = base64.b64encode(hashlib.md5(self.body).digest()).decode()
        return {"ETag": self.etag, "Last-Modified": self.modified, "Content-MD5": md5, "x-ms-blob-type": "BlockBlob"}


class Refused(Exception):
    """An answer that is an error: its status, the service's code for it, and its words."""

    def __init__(self, status, code, words=""):
        super().__init__(status, code)
        self.status, self.code, self.words = status, code, words or code


class BlobEndpoint(ThreadingHTTPServer):
    """Runs in threads of its own until ``close``; ``connection_string`` is what clients need."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.containers = {}
        self.connection_string = (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint=http://127.0.0.1:{self.server_port}/{ACCOUNT};"
        )
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do(self):
        """Every method: whom it is for, whether it is allowed, and the operation by its name."""
        url = urlsplit(self.path)
        query = parse_qs(url.query, keep_blank_values=True)
        self.query = {name.lower(): ",".join(sorted(values)) for name, values in query.items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        _, _, self.container, *rest = [*url.path.split("/", 3), ""][:4]
        self.blob = unquote(rest[0]) if rest else ""
        try:
            if not hmac.compare_digest(self.headers.get("Authorization", ""), self.authorization(url.path)):
                raise Refused(403, "AuthenticationFailed", FORGED)
            kind = "blob" if self.blob else "container"
            operation = getattr(self, f"{self.command.lower()}_{kind}", None)
            if operation is None or self.query.get("comp", "list") != "list":
                raise Refused(400, "UnsupportedOperation")
            operation(body)
        except Refused as refused:
            words = f"<Error><Code>{refused.code}</Code><Message>{refused.words}</Message></Error>"
            self.answer(refused.status, f"{XML}{words}".encode(), {"x-ms-error-code": refused.code})

    do_GET = do_HEAD = do_PUT = do_DELETE = do

    def authorization(self, path):
        """What the header must hold: "Authorize with Shared Key" in the source."""
        get = self.headers.get
        signed = [get(f"Content-{name}", "") for name in _SIGNED] + [get(name, "") for name in _CONDITIONS]
        signed[2] = signed[2] if signed[2] != "0" else ""
        if get("x-ms-date"):
            signed[5] = ""
        own = sorted((k.lower(), v) for k, v in self.headers.items() if k.lower().startswith("x-ms-"))
        lines = [self.command, *signed, *(f"{k}:{v}" for k, v in own), f"/{ACCOUNT}{path}"]
        text = "\n".join([*lines, *(f"{k}:{v}" for k, v in sorted(self.query.items()))])
        digest = hmac.digest(base64.b64decode(KEY), text.encode(), "sha256")
        return f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"

    def put_container(self, body):
        if self.container in self.server.containers:
            raise Refused(409, "ContainerAlreadyExists")
        self.server.containers[self.container] = {}
        self.answer(201)

    def head_container(self, body):
        self.blobs()
        self.answer(200)

    def delete_container(self, body):
        self.blobs()
        del self.server.containers[self.container]
        self.answer(202)

    def get_container(self, body):
        """One page of the list of blobs, or the container's properties."""
        names = sorted(name for name in self.blobs() if name.startswith(self.query.get("prefix", "")))
        if "comp" not in self.query:
            return self.answer(200)
        entries = {}
        delimiter, below = self.query.get("delimiter"), len(self.query.get("prefix", ""))
        for name in names:
            at = name.find(delimiter, below) if delimiter else -1
            entries.setdefault(name[: at + 1] if at >= 0 else name, at >= 0)
        page = [name for name in entries if name >= self.query.get("marker", "")]
        size = int(self.query.get("maxresults", PAGE))
        listed = "".join(self.prefix(name) if entries[name] else self.described(name) for name in page[:size])
        following = escape(page[size]) if len(page) > size else ""
        opening = f'{XML}<EnumerationResults ContainerName="{self.container}">'
        xml = f"{opening}<Blobs>{listed}</Blobs><NextMarker>{following}</NextMarker></EnumerationResults>"
        return self.answer(200, xml.encode())

    def prefix(self, name):
        return f"<BlobPrefix>{_name(name)}</BlobPrefix>"

    def described(self, name):
        blob = self.blobs()[name]
        told = {"Etag": blob.etag.strip('"'), "Last-Modified": blob.modified, "BlobType": "BlockBlob"}
        told["Content-Length"] = len(blob.body)
        properties = "".join(f"<{key}>{value}</{key}>" for key, value in told.items())
        return f"<Blob>{_name(name)}<Properties>{properties}</Properties></Blob>"

    def put_blob(self, body):
        etag = f'"0x{next(_etags):015X}"'
        blob = self.blobs()[self.blob] = Blob(body, etag, formatdate(usegmt=True))
        self.answer(201, headers=blob.headers())

    def delete_blob(self, body):
        if self.blobs().pop(self.blob, None) is None:
            raise Refused(404, "BlobNotFound")
        self.answer(202)

    def get_blob(self, body):
        """All of it, or the part that a range asks for."""
        blob = self.blobs().get(self.blob)
        if blob is None:
            raise Refused(404, "BlobNotFound")
        if self.headers.get("If-Match", blob.etag) != blob.etag:
            raise Refused(412, "ConditionNotMet")
        asked = self.headers.get("x-ms-range") or self.headers.get("Range")
        if not asked:
            return self.answer(200, blob.body, blob.headers())
        start, _, end = asked.removeprefix("bytes=").partition("-")
        if int(start) >= len(blob.body):
            raise Refused(416, "InvalidRange")
        part = blob.body[int(start) : int(end or len(blob.body)) + 1]
        where = f"bytes {start}-{int(start) + len(part) - 1}/{len(blob.body)}"
        headers = {**blob.headers(), "Content-Range": where}
        del headers["Content-MD5"]  # of the whole
        return self.answer(206, part, headers)

    head_blob = get_blob

    def blobs(self):
        """Those of the container that is asked for."""
        try:
            return self.server.containers[self.container]
        except KeyError:
            raise Refused(404, "ContainerNotFound") from None

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in {"Content-Type": "application/xml", "x-ms-version": "2025-01-05", **dict(headers)}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def _name(name):
    """Percent-encoded where XML could not hold it."""
    plain = all(each.isprintable() for each in name)
    return f"<Name>{escape(name)}</Name>" if plain else f'<Name Encoded="true">{quote(name)}</Name>'
