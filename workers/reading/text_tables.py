"""Read CSV and TSV: the layout is told by the content, and a header's names become the keys of rows."""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.reading.columns import columns_of, looks_like_names
from workers.reading.errors import DataError, RowFault
from workers.reading.files import lines_of
from workers.reading.formats.registry import FORMATS
from workers.reading.tally import JsonRow, Tally

DELIMITERS = ("\t", ",", ";", "|")
SUFFIXES = (".csv", ".tsv", ".tab")
TYPED = {"is_bad_source": "boolean", "segment_id": "whole number", "line_id": "whole number"}
_LONGEST_CELL = 1 << 30
# So many bytes tell the layout.
_LOOKED_AT = 1 << 20


@dataclass(frozen=True, slots=True)
class Layout:
    """delimiter: between cells. quoted: whether quotes go around cells. header: the columns' names; None where the
    first row is a pair already. before: lines that stand above it all."""

    delimiter: str
    quoted: bool
    header: tuple[str, ...] | None
    before: int = 0


def layout_of(content: bytes, path: Path, named_only: bool = False) -> Layout | None:
    """How the table in a file that begins so is laid out; None where it is not a table.

    A first row that names columns makes a table of any text. A suffix (.csv, .tsv) or exactly one tab in every line
    makes a table without names. named_only: a text without names is not a table. Raises DataError for a file of such a
    suffix whose columns can't be told.
    """
    content = content[:_LOOKED_AT]
    lines = content.decode("utf-8", errors="replace").split("\n")
    before = 1 if lines[0].strip().lower().startswith("sep=") else 0
    first = lines[before].rstrip("\r") if len(lines) > before else ""
    for delimiter in DELIMITERS:
        header = _cells(first, delimiter, quoted=True)
        if len(header) > 1 and _names_columns(header) and len(set(header)) == len(header):
            return Layout(delimiter, _is_quoted(lines[before:], delimiter), tuple(header), before)
    if _has_suffix(path) and _cells(first, "\t", quoted=True) == ["translation"]:
        return Layout(",", True, ("translation",), before)
    if named_only:
        return None
    full = [line for line in lines[before:] if line.strip()]
    whole = full[:-1] if len(full) > 1 and not content.endswith(b"\n") else full
    if not _has_suffix(path):
        tabbed = whole and all(
            line.count("\t") == 1 and all(cell.strip() for cell in line.split("\t")) for line in whole
        )
        return Layout("\t", False, None) if tabbed and not looks_like_names(first.split("\t")) else None
    return _without_header(lines[before:], before, path)


def rows_of(layout: Layout, chunks: Iterable[bytes], tally: Tally, langs: str | None) -> Iterator[JsonRow]:
    """The table's rows as JSON rows would be. langs: the pair of a table without a header.

    Rows of more or fewer cells than the header are bad rows. Raises DataError for quotes that are never closed.
    """
    texts = (line.decode("utf-8", errors="surrogateescape") for line in _after(lines_of(chunks), layout.before))
    records = _records(layout, texts, tally.path, layout.before)
    names = layout.header or ("src", "ref")
    if layout.header is not None:
        next(records, None)
    number = 0
    for line, cells in records:
        if not any(cell.strip() for cell in cells):
            continue
        number += 1
        try:
            row = _row(names, cells)
        except RowFault as fault:
            tally.refuse(line, fault)
            continue
        if layout.header is None and langs is not None:
            row["langs"] = langs
        yield JsonRow(number, line, row)


def _row(names: Sequence[str], cells: Sequence[str]) -> dict[str, object]:
    if len(cells) != len(names):
        rule = f"a row must have {len(names)} cells, as the table's first has, not {len(cells)}"
        raise RowFault(rule, " | ".join(cells))
    for cell in cells:
        if any("\udc80" <= character <= "\udcff" for character in cell):
            raise RowFault("the text must be UTF-8", cell.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
    return {name: _value(name, cell) for name, cell in zip(names, cells, strict=True)}


def _value(name: str, cell: str) -> object:
    kind = TYPED.get(name)
    if kind == "boolean":
        return {"true": True, "1": True, "false": False, "0": False}.get(cell.strip().lower(), cell)
    if kind == "whole number":
        return int(cell) if cell.strip().isdecimal() else cell
    if name == "translation" and cell.lstrip().startswith("{"):
        return _mapping(cell)
    return cell


def _mapping(cell: str) -> object:
    """A cell that spells a mapping, as JSON or as Python does."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return cell


def _names_columns(cells: Sequence[str]) -> bool:
    known = any(set(one.telling) <= set(cells) for one in FORMATS.values())
    return known or columns_of(cells) is not None


def _without_header(lines: Sequence[str], before: int, path: Path) -> Layout:
    first = lines[0].rstrip("\r")
    delimiter = max(DELIMITERS, key=lambda sign: (first.count(sign) == 1, sign == _own(path), first.count(sign)))
    if _own(path) == "\t" or "\t" in first:
        delimiter = "\t"
    quoted = _is_quoted(lines, delimiter)
    cells = _cells(first, delimiter, quoted)
    if len(cells) == 2 and not looks_like_names(cells):
        return Layout(delimiter, quoted, None, before)
    rule = f"the table's columns can't be told by their first row ({len(cells)} cells)"
    way_out = "Name them src, ref and langs, or by their languages (en, de); two columns without names are a pair."
    raise DataError(path, before + 1, first, rule, way_out)


def _own(path: Path) -> str:
    return "," if path.name.lower().removesuffix(".gz").endswith(".csv") else "\t"


def _has_suffix(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(SUFFIXES)


def _cells(line: str, delimiter: str, quoted: bool) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [""]) if quoted else line.split(delimiter)


def _is_quoted(lines: Sequence[str], delimiter: str) -> bool:
    """Whether quotes go around cells. In CSV they do. In a TSV, where most writers quote nothing, they do if rows are
    whole only so, or if every cell of text has them; else they belong to the text."""
    if delimiter != "\t":
        return True
    plain = [line.rstrip("\r").split("\t") for line in lines if line.strip()][:1000]
    widths = {len(cells) for cells in plain[:-1]} or {1}
    opened = [cell for cells in plain for cell in cells if cell.startswith('"')]
    if not opened:
        return False
    every = all(
        cell.startswith('"') and cell.endswith('"') and len(cell) > 1 for cells in plain[1:-1] for cell in cells
    )
    torn = len(widths) > 1 or any('""' in cell[1:-1] and cell.endswith('"') for cell in opened)
    return torn or (every and len(plain) > 2)


def _records(layout: Layout, lines: Iterator[str], path: Path, before: int) -> Iterator[tuple[int, list[str]]]:
    if not layout.quoted:
        for number, line in enumerate(lines, start=before + 1):
            yield number, line.rstrip("\r\n").split(layout.delimiter)
        return
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(lines, delimiter=layout.delimiter, strict=True)
    last = 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            rule = f"the table is cut off, or its quotes are not closed ({error})"
            way_out = 'Quote a cell as "…", and a quote within it as "".'
            raise DataError(path, before + last + 1, None, rule, way_out) from None
        yield before + last + 1, cells
        last = reader.line_num


def _after(lines: Iterator[bytes], count: int) -> Iterator[bytes]:
    for _ in range(count):
        next(lines, None)
    return lines
