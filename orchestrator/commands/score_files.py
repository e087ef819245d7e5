"""The files that `mtpareto score` takes: plain text, a segment a line, or JSON lines that hold the text in a field."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from search_spaces.errors import UserError
from search_spaces.wording import pluralize
from workers.reading.binary_tables import table_kind
from workers.reading.errors import DataError, shorten
from workers.reading.files import read_content, split_lines
from workers.reading.rows import is_array, starts_with_object
from workers.reading.text_tables import SUFFIXES

Role = Literal["hypotheses", "references", "sources"]
# The first of a role's fields that a row has is scored: `pred` is main.py's, `text` a run's, `hypothesis` WMT's.
FIELDS: dict[Role, tuple[str, ...]] = {
    "hypotheses": ("pred", "hypothesis", "hyp", "prediction", "mt", "translation", "output", "text"),
    "references": ("ref", "reference", "refs", "target", "tgt", "text"),
    "sources": ("src", "source", "src_text", "text"),
}


class ScoreError(UserError):
    """Files that can't be scored: missing, empty, not UTF-8, or not line by line with each other."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """A text file, one segment a line, without the spaces at a line's end."""

    path: Path
    lines: tuple[str, ...]


def read_lines(path: Path, role: Role = "hypotheses") -> TextFile:
    """The segments of a file, plain or gzip: its lines, or of JSON lines the field that holds a role's text.

    Raises ScoreError when the file is missing, empty, damaged, not UTF-8, a table, or JSON whose text can't be told.
    """
    try:
        if table_kind(path) is not None or path.name.removesuffix(".gz").endswith(SUFFIXES):
            raise _table(path)
        content = read_content(path)
    except DataError as error:
        raise ScoreError(str(error)) from error
    lines = (_decoded(path, number, line) for number, line in enumerate(split_lines(content), start=1))
    if is_array(content) or _is_list_of_texts(content):
        return TextFile(path, tuple(_texts(path, _elements(path, "\n".join(lines)), role)))
    if starts_with_object(content):
        return TextFile(path, tuple(_texts(path, _objects(path, lines), role)))
    return TextFile(path, tuple(lines))


def refuse_unequal(files: Sequence[TextFile]) -> None:
    """Raise ScoreError when the files have not as many lines each."""
    if len({len(file.lines) for file in files}) > 1:
        counts = ", ".join(f"{file.path} has {pluralize(len(file.lines), 'line')}" for file in files)
        raise ScoreError(
            f"the files must be line by line with each other, one segment a line: {counts}. "
            "Write them again from the same segments; an empty hypothesis is an empty line."
        )


def _decoded(path: Path, number: int, raw: bytes) -> str:
    try:
        return raw.decode("utf-8").rstrip()
    except UnicodeDecodeError as error:
        shown = shorten(raw.decode("utf-8", errors="replace"))
        raise ScoreError(
            f"{path}, line {number}: byte 0x{raw[error.start]:02x} at position {error.start + 1} is not UTF-8 "
            f"(found: {shown}). Save the file as UTF-8, such as with: iconv -t UTF-8"
        ) from None


def _is_list_of_texts(content: bytes) -> bool:
    if not content.lstrip().startswith(b"["):
        return False
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, list) and all(isinstance(one, str) for one in found)


def _table(path: Path) -> ScoreError:
    return ScoreError(f"{path} is a table; write the column of texts to a file of its own, one segment a line")


def _objects(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, start=1):
        if not line:
            raise ScoreError(f"{path}, line {number}: an empty line among JSON lines; every segment has its object")
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ScoreError(
                f"{path}, line {number}: the file begins as JSON lines, but this line is not JSON ({str(error)[:60]})"
            ) from None


def _elements(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    try:
        yield from enumerate(json.loads(text), start=1)
    except (ValueError, RecursionError) as error:
        raise ScoreError(f"{path} begins like a JSON array but is not one ({str(error)[:60]})") from None


def _texts(path: Path, rows: Iterable[tuple[int, Any]], role: Role) -> Iterator[str]:
    """A text a row, from the field that the first row has."""
    field: str | None = None
    for number, row in rows:
        if isinstance(row, str):
            yield row.rstrip()
            continue
        if field is None:
            field = next((name for name in FIELDS[role] if isinstance(row, dict) and name in row), None)
            if field is None:
                there = ", ".join(row) if isinstance(row, dict) else shorten(row)
                raise ScoreError(
                    f"{path} is JSON, and none of its fields ({there}) is known to hold {role}; name the text "
                    f"{FIELDS[role][0]!r}, or write plain text, one segment a line"
                )
        yield _text(path, number, row, field)


def _text(path: Path, number: int, row: Any, field: str) -> str:
    value = row.get(field) if isinstance(row, dict) else row
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, list):
        raise ScoreError(f"{path}, line {number}: {len(value)} texts in {field!r}; write a file for each of them")
    if not isinstance(value, str):
        raise ScoreError(f"{path}, line {number}: {field!r} must be a text (found: {shorten(value)})")
    return value.rstrip()
