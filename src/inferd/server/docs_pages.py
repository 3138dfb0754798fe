"""Serves `/docs` (Swagger UI) and `/redoc` from files in this package; the pages load nothing from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from inferd import __version__

if TYPE_CHECKING:
    from fastapi import FastAPI

ASSETS = Path(__file__).parent / "assets"

# Both libraries write style attributes, so inline styles are allowed; inline scripts and other origins are not.
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
        "worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "cache-control": "no-cache",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
# All addresses are relative, so the pages work below any prefix a proxy adds.
_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="docs/assets/favicon-32x32.png?v={version}">
"""
_DOCS = """<link rel="stylesheet" href="docs/assets/swagger-ui.css?v={version}">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js?v={version}"></script>
<script src="docs/assets/docs.js?v={version}"></script>
</body>
</html>
"""
# Redoc reports its use to its makers unless told not to; the policy above would stop it too.
_REDOC = """</head>
<body>
<redoc spec-url="openapi.json" disable-telemetry="true"></redoc>
<script type="module" src="docs/assets/redoc.standalone.js?v={version}"></script>
</body>
</html>
"""


class _Assets(StaticFiles):
    """The files beside this module. Pages ask for them with the release in the query, so they never go stale."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        response.headers["x-content-type-options"] = "nosniff"
        return response


def mount_docs(app: FastAPI) -> None:
    """Add `/docs`, `/redoc` and their files to an application made with ``docs_url=None, redoc_url=None``."""
    for path, body in (("/docs", _DOCS), ("/redoc", _REDOC)):
        page = (_HEAD + body).format(title=escape(app.title), version=__version__)
        app.add_api_route(path, _serve(page), include_in_schema=False, response_class=HTMLResponse)
    app.mount("/docs/assets", _Assets(directory=ASSETS), name="docs-assets")


def _serve(page: str) -> Callable[[], Awaitable[HTMLResponse]]:
    async def serve() -> HTMLResponse:
        return HTMLResponse(page, headers=_HEADERS)

    return serve
