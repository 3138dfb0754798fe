"""What all pages of reports share: one HTML page that needs nothing else, and rows of its tables."""

from __future__ import annotations

from html import escape
from string import Template

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b }
table { border-collapse: collapse; width: 100% } td, th { text-align: right; padding: .2rem .6rem }
td:first-child, th:first-child { text-align: left } tr { border-bottom: 1px solid #ddd }
section { margin: 2rem 0 } svg { width: 100%; height: auto } svg text { font-size: 11px; fill: #555 }
pre { background: #f4f4f4; padding: .6rem; overflow-x: auto; font-size: .85rem }
.verdict { font-weight: 600 } .better, .holds { color: #11643a } .worse, .broken, .void { color: #a3160f }
.note { color: #555; font-size: .9rem }
</style></head><body>
<h1>$title</h1>
$body
</body></html>
""")


def page(title: str, body: str) -> str:
    """``title`` is text, ``body`` HTML. The page holds no script and asks for no other file."""
    return _PAGE.substitute(title=escape(title), body=body)


def row(*cells: str) -> str:
    """A row of a table; cells are text."""
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def number(value: float | None) -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None else f"{value:.5g}"
