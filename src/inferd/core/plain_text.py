"""What may stand in a line that people read: a file's name, a model's own error, a number."""

from __future__ import annotations


def one_line(text: str) -> str:
    """``text`` in one line that changes nothing of the terminal: what does not print is escaped as in Python."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def plain_lines(text: str) -> str:
    """The same, but lines stay lines."""
    return "\n".join(map(one_line, text.split("\n")))


def digits(value: float, count: int) -> str:
    """``value`` to ``count`` significant digits, without an exponent: 140, not 1.4e+02."""
    return f"{float(f'{value:.{count}g}'):.15g}"
