"""Read files of pairs row by row, for training data that need not fit in memory: the same formats, and any direction.

What `read_dataset` refuses as an empty text is given as "" here, so that the caller can count it.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from glob import escape
from itertools import chain, zip_longest
from pathlib import Path

from workers.reading import fields as check
from workers.reading import parallel_text, plain_json
from workers.reading.alma import language_code
from workers.reading.errors import DataError, RowFault
from workers.reading.files import decode, lines_of, stream_content
from workers.reading.formats import ACCEPTED, FORMATS, recognise
from workers.reading.languages import split_pair
from workers.reading.rows import is_json, json_rows
from workers.reading.tally import Request, Row, Tally


@dataclass(frozen=True, slots=True)
class Texts:
    """What one row says in two or more languages. line: in the file, 1-based; None where the format joins several rows
    into one. by_language: code -> text without the white space around it, "" where there is none."""

    line: int | None
    by_language: dict[str, str]


def stream(path: Path, languages: Collection[str], tally: Tally) -> Iterator[Texts]:
    """Yield the rows of a file, plain or gzip, as they are read; those of evaluation sets when the file is read.

    Of parallel text `path` is one side; the other sides are the files beside it that bear the same name and one of
    `languages`. Raises DataError for a bad row, unless the tally skips them, and for a file that can't be used.
    """
    chunks = stream_content(path)
    first = next(chunks)
    if not is_json(first):
        chunks.close()
        yield from _lines(sides(path, languages), tally)
        return
    key, rows = recognise(json_rows(chain([first], chunks), tally), tally)
    if key in _BY_ROW:
        yield from _by_row(rows, _BY_ROW[key], tally)
        return
    for segment in FORMATS[key].read(rows, Request(path, None), tally):
        by_language = {segment.source_language: segment.source, segment.target_language: segment.references[0]}
        yield Texts(None, by_language)


def sides(path: Path, languages: Collection[str]) -> dict[str, Path]:
    """The files of a parallel text by language, the one that is given first; raises DataError when it is alone."""
    stem = _stem(path)
    own = parallel_text.suffix_language(path)
    found = {} if own is None else {own: path}
    for other in sorted(path.parent.glob(f"{escape(stem)}.*")) if found else ():
        language = parallel_text.suffix_language(other)
        if language in languages and language not in found and _stem(other) == stem and other.is_file():
            found[str(language)] = other
    if len(found) < 2:
        wanted = ", ".join(sorted(languages)) or "another language"
        rule = f"the file holds no JSON rows, and there is no other side of it in {wanted} beside it"
        way_out = "Name parallel text by its languages (train.en with train.de, .gz may follow) in one folder. "
        raise DataError(path, None, path.name, rule, way_out + ACCEPTED)
    return found


def content_digest(path: Path, langs: Iterable[str]) -> str:
    """SHA-256 (64 hex digits) of what `stream` reads for these directions: the unpacked content of a file, or of every
    side of a parallel text. Raises DataError for a file that is missing, empty or damaged."""
    own = _sha256(path)
    if is_json(next(stream_content(path))):
        return own
    languages = {language for pair in langs for language in split_pair(pair)}
    by_language = {language: _sha256(side) for language, side in sorted(sides(path, languages).items())}
    return hashlib.sha256(json.dumps(by_language).encode()).hexdigest()


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    for chunk in stream_content(path):
        found.update(chunk)
    return found.hexdigest()


def _by_row(rows: Iterable[Row], read: Callable[[Row], dict[str, str]], tally: Tally) -> Iterator[Texts]:
    for row in rows:
        try:
            by_language = read(row)
        except RowFault as fault:
            tally.refuse(row.line, fault)
        else:
            yield Texts(row.line, by_language)


def _alma(row: Row) -> dict[str, str]:
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


def _plain(row: Row) -> dict[str, str]:
    source_language, target_language = split_pair(plain_json.row_langs(row.fields, None))
    source = check.string(check.required(row.fields, "src"), "src").strip()
    reference = check.required(row.fields, "ref")
    if isinstance(reference, list):
        reference = reference[0] if reference else ""
    return {source_language: source, target_language: check.string(reference, "ref").strip()}


_BY_ROW: dict[str, Callable[[Row], dict[str, str]]] = {"alma": _alma, "plain_json": _plain}


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


def _stem(path: Path) -> str:
    """The name without the language and .gz: "train" for train.de.gz."""
    return path.name.removesuffix(".gz").rpartition(".")[0]
