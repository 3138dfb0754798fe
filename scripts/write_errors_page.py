"""Write docs/errors.md from the error classes and the one table of statuses; `--check` compares instead."""

from __future__ import annotations

import sys
from pathlib import Path

from inferd.protocols.shared.status import HTTP_STATUS

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"
HEAD = """# Errors

Every error body on the native routes is a problem document (RFC 9457, `application/problem+json`):

```json
{"type":"urn:inferd:error:invalid-request","title":"Invalid request","status":422,
 "detail":"instances[1] has 1 value where 2 are expected","code":"INVALID_ARGUMENT",
 "path":"instances[1]","got":"[3]","expected":"FP32[-1, 2]",
 "example":{"instances":[[0.0,1.0]]},"request_id":"5512ba53d5ae-5eb"}
```

`type`, `title`, `status`, `detail`, `code` and `request_id` are always there; `path`, `tensor`, `got`, `expected`,
`offset` (in bytes), `hint`, `example` and `retry_after_s` where they apply. No answer ever holds a traceback or a path
of the server: what a model's own code raised is in the server's log, under the request id.

| error | status | code | when |
|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    rows = []
    for kind, status in HTTP_STATUS.items():
        when = " ".join((kind.__doc__ or "").split("\n\n")[0].replace("``", "`").split())
        rows.append(f"| `{kind.__name__}` | {status} | `{kind.code.value}` | {when} |")
    return HEAD + "\n".join(rows) + "\n"


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
