"""Check that every changelog fragment is named and worded as `changelog.d/README.md` asks."""

from __future__ import annotations

import re
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "changelog.d"
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\.(added|changed|fixed)\.md")
SENTENCE_END = re.compile(r"[.!?][`'\")]*\s+[A-Z]")
MAX_CHARACTERS = 300


def problem(path: Path) -> str | None:
    """What is wrong with one fragment, or None."""
    if not NAME.fullmatch(path.name):
        return "must be named <short-slug>.<added|changed|fixed>.md"
    text = path.read_text(encoding="utf-8").strip()
    if not text or not text.endswith("."):
        return "must be a sentence that ends with a full stop"
    if "\n" in text or SENTENCE_END.search(text):
        return "must be one sentence on one line"
    if len(text) > MAX_CHARACTERS:
        return f"is {len(text)} characters long, {MAX_CHARACTERS} is the limit"
    return None


def main() -> int:
    """Print each problem; the exit code is 1 when there is one."""
    fragments = sorted(path for path in FOLDER.iterdir() if path.name != "README.md")
    found = [(path, reason) for path in fragments if (reason := problem(path))]
    for path, reason in found:
        print(f"changelog.d/{path.name} {reason}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
