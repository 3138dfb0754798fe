import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from inferd.server.docs_pages import ASSETS, mount_docs


@pytest.fixture
def client():
    app = FastAPI(title="iris & <friends>", docs_url=None, redoc_url=None)
    mount_docs(app)
    return TestClient(app)


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_page_asks_only_for_files_of_this_server_and_they_are_there(client, path):
    page = client.get(path)
    assert page.status_code == 200
    addresses = re.findall(r'(?:src|href|spec-url)="([^"]+)"', page.text)
    assert len(addresses) > 2
    for address in addresses:
        assert not re.match(r"[a-z]+:|/", address)
        assert client.get(f"/{address}").status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_policy_of_a_page_forbids_other_origins_and_inline_scripts(client, path):
    page = client.get(path)
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert "script-src" not in policy
    assert not re.search(r"https?:|\*", page.headers["content-security-policy"])
    assert not re.search(r"<script(?![^>]*src=)", page.text)


def test_the_title_is_escaped(client):
    assert "<title>iris &amp; &lt;friends&gt;</title>" in client.get("/docs").text


def test_a_file_is_kept_for_good_and_not_sent_twice(client):
    first = client.get("/docs/assets/swagger-ui.css")
    assert "immutable" in first.headers["cache-control"]
    again = client.get("/docs/assets/swagger-ui.css", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["../docs_pages.py", "%2e%2e/docs_pages.py", "missing.js"])
def test_nothing_beside_the_folder_is_served(client, name):
    assert client.get(f"/docs/assets/{name}").status_code == 404


def test_the_licences_lie_beside_the_files():
    assert {"swagger-ui.LICENSE", "swagger-ui.NOTICE", "redoc.LICENSE"} <= {path.name for path in ASSETS.iterdir()}
