"""Read one data set: get its rows or lines, recognise the format by the content, and have its module read it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from workers.languages.codes import UnknownLanguage, normalise_pair
from workers.reading.binary_tables import table_kind, table_rows
from workers.reading.errors import DataError, RowFault
from workers.reading.files import decode, read_content
from workers.reading.formats import parallel_text
from workers.reading.formats.alma import named_direction
from workers.reading.formats.registry import FORMATS, nothing_usable, recognise
from workers.reading.rows import is_json, json_rows, starts_with_object
from workers.reading.segments import DataSet, Segment, segments_digest
from workers.reading.tally import JsonRow, ReadRequest, Tally
from workers.reading.text_tables import layout_of, rows_of


def read_dataset(
    path: str | Path,
    *,
    references: str | Path | None = None,
    langs: str | None = None,
    skip_bad_rows: bool = False,
) -> DataSet:
    """Read a data file, plain or gzip, in any of the formats in `formats.FORMATS`, a table of such rows or of columns
    that name a pair (CSV, TSV, parquet, Arrow, a folder of `datasets`, Excel), or one side of a parallel text.

    references: the file of reference lines where path holds source lines; without it, the file beside path that bears
    another language (x.de beside x.en). langs: a pair, such as "en-de". Where the rows of a file name their pairs, only
    the rows of this pair are read, and the others are counted in the result's `left_out`; where a file names none, it
    is the file's own pair. skip_bad_rows: a bad row is left out and listed in the result's `bad_rows`; otherwise the
    first one is raised. Text is kept as given but for the white space around it.

    Raises DataError for a bad row, and in any case for a file that is missing, empty, damaged, of no accepted format,
    without a row of the pair in langs, or without one usable segment.
    """
    path = Path(path)
    request = ReadRequest(path, _asked_pair(path, langs))
    tally = Tally(path, skip_bad_rows)
    key, segments = _read(request, None if references is None else Path(references), tally)
    if not segments:
        raise nothing_usable(tally, request.langs)
    return DataSet(
        name=path.name,
        format=key,
        segments=tuple(segments),
        digest=segments_digest(segments),
        bad_rows=tuple(sorted(tally.bad_rows, key=lambda row: row.line)),
        left_out=tally.left_out,
    )


def _read(request: ReadRequest, references: Path | None, tally: Tally) -> tuple[str, list[Segment]]:
    path = request.path
    if references is None and (kind := table_kind(path)) is not None:
        return _from_rows(table_rows(path, kind), request, tally)
    content = read_content(path)
    if references is not None:
        return parallel_text.KEY, _read_text(content, references, request, tally)
    holds_json = is_json(content)
    layout = layout_of(content, path, named_only=holds_json)
    both = None if holds_json else parallel_text.beside(path, request.langs)
    if both is not None and (layout is None or layout.header is None):
        sources, beside = both
        request = ReadRequest(sources, request.langs)
        return parallel_text.KEY, _read_text(read_content(sources), beside, request, tally)
    if layout is not None:
        named = request.langs or named_direction(path)
        return _from_rows(rows_of(layout, [content], tally, named), request, tally)
    if holds_json:
        return _from_rows(json_rows([content], tally), request, tally)
    raise _text_alone(path, content)


def _from_rows(rows: Iterable[JsonRow], request: ReadRequest, tally: Tally) -> tuple[str, list[Segment]]:
    key, recognised = recognise(rows, tally, request.langs)
    return key, FORMATS[key].read(recognised, request, tally)


def _asked_pair(path: Path, langs: str | None) -> str | None:
    try:
        return None if langs is None else normalise_pair(langs)
    except UnknownLanguage as error:
        way_out = "Pass langs as two ISO 639 codes, source first: en-de, cs-uk, en-pt_BR, ces-deu."
        raise DataError(path, None, langs, str(error), way_out) from None


def _read_text(content: bytes, reference_path: Path, request: ReadRequest, tally: Tally) -> list[Segment]:
    reference_content = read_content(reference_path)
    for file, rows in ((request.path, content), (reference_path, reference_content)):
        if starts_with_object(rows):
            rule = "references go with text files of one segment a line, but this is a JSON file"
            way_out = "Leave references out: a JSON file has its references inside."
            raise DataError(file, 1, rows[:200].decode("utf-8", errors="replace"), rule, way_out)
    return parallel_text.read(content, reference_content, reference_path, request, tally)


def _text_alone(path: Path, content: bytes) -> DataError:
    raw = content.lstrip().split(b"\n", 1)[0]
    try:
        first = decode(raw)
    except RowFault as fault:
        return DataError(path, 1, fault.value, fault.rule, "Convert the file to UTF-8, such as with iconv.")
    rule = "this is text without references"
    way_out = (
        "Put them beside it under the same name (x.de beside x.en), or write JSON lines of {src, ref, langs}; those of "
        "--data may also be named with --references."
    )
    return DataError(path, 1, first, rule, way_out)
