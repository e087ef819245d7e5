"""The few pieces of Markdown that a page of results is made of; every text of data passes through `escape` or
`fence`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from orchestrator.results.tables.paper_table import escape_markdown as escape

__all__ = ["Marked", "code", "escape", "fence", "percent", "section", "short", "table"]

MOST_CHARACTERS = 300


class Marked(str):
    """A cell that is Markdown already."""


def code(name: str) -> Marked:
    """A name of this project's own, as code."""
    return Marked(f"`{name}`")


def percent(share: float, digits: int = 1) -> str:
    """`98.7 %`."""
    return f"{100 * share:.{digits}f} %"


def table(head: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> str:
    """A table as GitHub reads it; empty without rows. head: (what is shown, whether it is text and stands left). rows:
    cells of text, which is escaped where it is not `Marked`."""
    if not rows:
        return ""
    lines = [
        [escape(name) for name, _ in head],
        ["---" if is_text else "---:" for _, is_text in head],
        *([cell if isinstance(cell, Marked) else escape(cell) for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def section(heading: str, *parts: str) -> str:
    """A section of the parts that are not empty; empty where none is. parts: Markdown."""
    said = [part for part in parts if part]
    return "\n\n".join([f"## {heading}", *said]) if said else ""


def fence(text: str, language: str = "") -> str:
    """A text as it stands, in a block that no line of it can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}{language}\n{text.rstrip()}\n{marks}"


def short(text: str) -> str:
    """The beginning of a text that is too long for a page."""
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1].rstrip()}…"
