"""The few pieces of HTML that the report is made of; every text passes through `text` or `json_script`."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

# Nothing may be fetched: a page is one file, whatever a translation holds.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
UNSAFE_IN_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def text(value: object) -> str:
    """A value as HTML text, safe between tags and inside a quoted attribute."""
    return html.escape(str(value), quote=True)


def json_script(identifier: str, value: object) -> str:
    """Data for the page's script; no text inside can end the element."""
    content = json.dumps(value, ensure_ascii=False, allow_nan=False)
    for character, escape in UNSAFE_IN_SCRIPT.items():
        content = content.replace(character, escape)
    return f'<script type="application/json" id="{text(identifier)}">{content}</script>'


def document(title: str, style: str, body: Sequence[str], data: Sequence[str], scripts: Sequence[str]) -> str:
    """A whole page that opens offline. style: CSS. body: HTML. data: what `json_script` made. scripts: JavaScript."""
    return "".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{text(title)}</title><style>{style}</style></head><body><main>",
            *body,
            "</main>",
            *data,
            *(f"<script>{script}</script>" for script in scripts),
            "</body></html>\n",
        ]
    )


def cell(content: str, order: float | str | None = None, style: str = "") -> str:
    """A table cell. content: HTML. order: what the column sorts by, where that is not the text shown."""
    attributes = "" if order is None else f' data-order="{text(order)}"'
    return f"<td{attributes}{_class(style)}>{content}</td>"


def number(shown: str, value: float | None, style: str = "") -> str:
    """A right-aligned number that sorts by its value."""
    return cell(text(shown), "" if value is None else repr(float(value)), f"number {style}".strip())


def head(names: Sequence[tuple[str, str]], sortable: bool = False) -> str:
    """A table's head. names: (what is shown, the column's class)."""
    columns = "".join(
        f'<th scope="col"{_class(style)}>'
        + (f'<button type="button">{text(name)}</button>' if sortable else text(name))
        + "</th>"
        for name, style in names
    )
    return f"<thead><tr>{columns}</tr></thead>"


def table(header: str, rows: Sequence[str], style: str = "", caption: str = "") -> str:
    """A table in a box that scrolls sideways where the page is too narrow. caption: HTML."""
    about = f"<caption>{caption}</caption>" if caption else ""
    return f'<div class="wide"><table{_class(style)}>{about}{header}<tbody>{"".join(rows)}</tbody></table></div>'


def section(identifier: str, heading: str, *parts: str) -> str:
    """A section with its heading. parts: HTML."""
    return f'<section id="{text(identifier)}"><h2>{text(heading)}</h2>{"".join(parts)}</section>'


def note(sentence: str) -> str:
    """A paragraph about what follows."""
    return f'<p class="about">{text(sentence)}</p>'


def facts(rows: Sequence[tuple[str, str]], style: str = "facts") -> str:
    """A list of names and what they are. rows: (name, HTML)."""
    items = "".join(f"<div><dt>{text(name)}</dt><dd>{content}</dd></div>" for name, content in rows)
    return f"<dl{_class(style)}>{items}</dl>"


def _class(style: str) -> str:
    return f' class="{text(style)}"' if style else ""
