"""Write docs/errors.md from the error classes, their statuses and real answers; `--check` compares instead."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from inferd import InvalidInput
from inferd.protocols.shared.status import HTTP_STATUS
from inferd.testing import Client

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"
HEAD = """# Errors

Made from the error classes and from answers of a real server by `scripts/write_errors_page.py`; do not edit.

Every error body on the native routes is a problem document (RFC 9457, `application/problem+json`). `type`, `title`,
`status`, `detail`, `code` and `request_id` are always there; `path`, `tensor`, `got`, `expected`, `offset` (in bytes),
`hint`, `example` and `retry_after_s` where they apply. No answer ever holds a traceback or a path of the server: what a
model's own code raised is in the server's log, under the request id.

| error | status | code | when |
|---|---|---|---|
"""
EXAMPLES_HEAD = """
## What they look like

Each is the answer of a model with one input, `x` of FP32[-1, 2], to the request above it.
"""
JSON = {"content-type": "application/json"}
REQUESTS = (
    ("Broken JSON", "POST", "/predict", '{"instances": [[1, 2]', JSON),
    ("A row of the wrong length", "POST", "/predict", '{"instances": [[1, 2], [3]]}', JSON),
    ("A value of the wrong type", "POST", "/predict", '{"instances": [[1, "2"]]}', JSON),
    ("An input the model does not have", "POST", "/predict", '{"inputs": {"z": [[1, 2]]}}', JSON),
    ("Rows the model's own code refuses", "POST", "/predict", '{"instances": [[1, 2], [-3, 4]]}', JSON),
    ("A model's own code fails", "POST", "/predict", '{"instances": [[7, 7]]}', JSON),
    ("Another content type", "POST", "/predict", "1,2", {"content-type": "text/csv"}),
    (
        "An answer in a type not on offer",
        "POST",
        "/predict",
        '{"instances": [[1, 2]]}',
        {**JSON, "accept": "image/png"},
    ),
    ("A model nobody serves", "POST", "/models/iris/predict", '{"instances": [[1, 2]]}', JSON),
    ("The wrong method", "GET", "/predict", "", {}),
)


class Example:
    """The model of the examples."""

    inputs: ClassVar = {"x": "FP32[-1, 2]"}
    outputs: ClassVar = {"y": "FP32[-1, 2]"}
    batchable = True

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Double ``x``; refuse what is below zero, fail on a 7."""
        if (x < 0).any():
            raise InvalidInput("x must not be negative")
        if (x == 7).any():
            raise RuntimeError("details for the log")
        return x * 2


def page() -> str:
    """The whole page."""
    rows = []
    for kind, status in HTTP_STATUS.items():
        when = " ".join((kind.__doc__ or "").split("\n\n")[0].replace("``", "`").split())
        rows.append(f"| `{kind.__name__}` | {status} | `{kind.code.value}` | {when} |")
    with Client(Example(), name="doubler", protocols=("native",)) as client:
        examples = [_example(client, *request) for request in REQUESTS]
    return HEAD + "\n".join(rows) + "\n" + EXAMPLES_HEAD + "".join(examples)


def _example(client: Client, title: str, method: str, path: str, body: str, headers: Mapping[str, str]) -> str:
    reply = client.request(method, path, body.encode(), {**headers, "x-request-id": "5512ba53d5ae-5eb"})
    asked = "\n".join([f"{method} {path}", *(f"{name.title()}: {value}" for name, value in headers.items()), "", body])
    return (
        f"\n### {title}\n\n```http\n{asked.rstrip()}\n```\n\n"
        f"```json\n{json.dumps(reply.json, indent=2, ensure_ascii=False)}\n```\n"
    )


def main() -> int:
    """Write or compare; the exit code."""
    if "--check" in sys.argv:
        if PAGE.read_text() == page():
            return 0
        print(f"{PAGE.name} is not what the code says: run scripts/{Path(__file__).name}")
        return 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
