"""Read files of pairs row by row, for training data that need not fit in memory: the same formats, and any direction.

What `read_dataset` refuses as an empty text is given as "" here, so that the caller can count it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

from workers.languages.codes import split_pair
from workers.reading import fields as check
from workers.reading.binary_tables import table_files, table_kind, table_rows
from workers.reading.errors import DataError, RowFault
from workers.reading.files import decode, lines_of, stream_content
from workers.reading.formats import parallel_text, plain_json
from workers.reading.formats.alma import language_code, named_direction
from workers.reading.formats.registry import ACCEPTED, FORMATS, recognise
from workers.reading.rows import is_json, json_rows
from workers.reading.tally import JsonRow, ReadRequest, Tally
from workers.reading.text_tables import layout_of, rows_of


@dataclass(frozen=True, slots=True)
class Texts:
    """What one row says in two or more languages. line: in the file, 1-based; None where the format joins several rows
    into one. by_language: code -> text without the white space around it, "" where there is none."""

    line: int | None
    by_language: dict[str, str]


def stream(path: Path, languages: Collection[str], tally: Tally) -> Iterator[Texts]:
    """The rows of a file, plain or gzip, as they are read; those of evaluation sets when the file is read.

    path: the file; of parallel text, one side. The other sides are the files beside it that bear the same name and one
    of the languages. Raises DataError for a bad row, unless the tally skips them, and for a file that can't be used.
    """
    found = _rows(path, languages, tally)
    if found is None:
        yield from _lines(sides(path, languages), tally)
        return
    key, rows = recognise(found, tally)
    if key in _BY_ROW:
        yield from _by_row(rows, _BY_ROW[key], tally)
        return
    for segment in FORMATS[key].read(rows, ReadRequest(path), tally):
        by_language = {segment.source_language: segment.source, segment.target_language: segment.references[0]}
        yield Texts(None, by_language)


def _rows(path: Path, languages: Collection[str], tally: Tally) -> Iterator[JsonRow] | None:
    """The rows of a file that has any; None for one side of a parallel text."""
    if (kind := table_kind(path)) is not None:
        return table_rows(path, kind)
    chunks = stream_content(path)
    first = next(chunks)
    holds_json = is_json(first)
    layout = layout_of(first, path, named_only=holds_json)
    if layout is not None and (layout.header or len(parallel_text.sides(path, languages)) < 2):
        return rows_of(layout, chain([first], chunks), tally, named_direction(path))
    if holds_json:
        return json_rows(chain([first], chunks), tally)
    chunks.close()
    return None


def sides(path: Path, languages: Collection[str]) -> dict[str, Path]:
    """The files of a parallel text by language, the one that is given first; raises DataError when it is alone."""
    found = parallel_text.sides(path, languages)
    if len(found) < 2:
        wanted = ", ".join(sorted(languages)) or "another language"
        rule = f"the file holds no JSON rows, and there is no other side of it in {wanted} beside it"
        way_out = "Name parallel text by its languages (train.en with train.de, .gz may follow) in one folder. "
        raise DataError(path, None, path.name, rule, way_out + ACCEPTED)
    return found


def content_digest(path: Path, langs: Iterable[str]) -> str:
    """SHA-256 (64 hex digits) of what `stream` reads for these directions: the unpacked content of a file, or of every
    side of a parallel text. Raises DataError for a file that is missing, empty or damaged."""
    if (kind := table_kind(path)) is not None:
        return _sha256(chain.from_iterable(map(_raw, table_files(path, kind))))
    own = _sha256(stream_content(path))
    languages = {language for pair in langs for language in split_pair(pair)}
    rows = _rows(path, languages, Tally(path, skip=False))
    if rows is not None:
        return own
    by_language = {language: _sha256(stream_content(side)) for language, side in sorted(sides(path, languages).items())}
    return hashlib.sha256(json.dumps(by_language).encode()).hexdigest()


def _sha256(chunks: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for chunk in chunks:
        found.update(chunk)
    return found.hexdigest()


def _raw(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            yield chunk


def _by_row(rows: Iterable[JsonRow], read: Callable[[JsonRow, Path], dict[str, str]], tally: Tally) -> Iterator[Texts]:
    for row in rows:
        try:
            by_language = read(row, tally.path)
        except RowFault as fault:
            tally.refuse(row.line, fault)
        else:
            yield Texts(row.line, by_language)


def _alma(row: JsonRow, _: Path) -> dict[str, str]:
    translation = check.mapping(row.fields, "translation")
    found = {
        code: check.string(value, f"translation.{key}").strip()
        for key, value in translation.items()
        if (code := language_code(key)) is not None
    }
    if len(found) < 2:
        rule = "`translation` must have texts in two languages"
        raise RowFault(rule, "it has " + (", ".join(translation) or "nothing"))
    return found


def _plain(row: JsonRow, path: Path) -> dict[str, str]:
    source_language, target_language = split_pair(plain_json.row_langs(row.fields, ReadRequest(path)))
    source = check.string(check.required(row.fields, "src"), "src").strip()
    reference = check.required(row.fields, "ref")
    if isinstance(reference, list):
        reference = reference[0] if reference else ""
    return {source_language: source, target_language: check.string(reference, "ref").strip()}


_BY_ROW: dict[str, Callable[[JsonRow, Path], dict[str, str]]] = {"alma": _alma, "plain_json": _plain}


def _lines(files: dict[str, Path], tally: Tally) -> Iterator[Texts]:
    streams = [lines_of(stream_content(path)) for path in files.values()]
    for line, raws in enumerate(zip_longest(*streams), start=1):
        if None in raws:
            names = ", ".join(path.name for path in files.values())
            shorter = ", ".join(path.name for path, raw in zip(files.values(), raws, strict=True) if raw is None)
            rule = f"the sides of a parallel text ({names}) must have the same number of lines"
            raise DataError(tally.path, line, f"{shorter} ends before", rule, "Fetch the files again.")
        try:
            yield Texts(line, {code: _decoded(raw, files[code]) for code, raw in zip(files, raws, strict=True)})
        except RowFault as fault:
            tally.refuse(line, fault)


def _decoded(raw: bytes, file: Path) -> str:
    try:
        return decode(raw).strip()
    except RowFault as fault:
        raise RowFault(fault.rule, fault.value, fault.way_out, file) from None
