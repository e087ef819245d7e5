"""Read a data set: get the rows or lines of its files, recognise the formats by the content, and have their modules
read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from workers.languages.codes import UnknownLanguage, normalise_pair, split_pair
from workers.reading.binary_tables import table_kind, table_rows
from workers.reading.errors import DataError, RowFault
from workers.reading.files import decode, read_content
from workers.reading.formats import parallel_text
from workers.reading.formats.alma import named_direction
from workers.reading.formats.registry import FORMATS, nothing_usable, recognise
from workers.reading.rows import is_json, json_rows, starts_with_object
from workers.reading.segments import BadRow, DataSet, Segment, both_directions_id, name_files, segments_digest
from workers.reading.tally import JsonRow, ReadRequest, Tally, of_other_pairs
from workers.reading.text_tables import layout_of, rows_of

IN_EARLIER = "segments that an earlier file has"

_Text = tuple[str, str, tuple[str, ...]]


def read_dataset(
    path: str | Path,
    *,
    references: str | Path | None = None,
    langs: str | Sequence[str] | None = None,
    skip_bad_rows: bool = False,
) -> DataSet:
    """Read a data file, plain or gzip, in any of the formats in `formats.FORMATS`, a table of such rows or of columns
    that name a pair (CSV, TSV, parquet, Arrow, a folder of `datasets`, Excel), or one side of a parallel text.

    references: the file of reference lines where path holds source lines; without it, the file beside path that bears
    another language (x.de beside x.en). langs: a pair, such as "en-de", or several. Where the rows of a file name their
    pairs, only the rows of these pairs are read, and the others are counted in the result's `left_out`; where a file
    names none, one pair is the file's own. Of several pairs, what says which languages it is in and not which is the
    source (ALMA's rows, columns named by languages, parallel text) serves each that it can. skip_bad_rows: a bad row is
    left out and listed in the result's `bad_rows`; otherwise the first one is raised. Text is kept as given but for the
    white space around it.

    Raises DataError for a bad row, and in any case for a file that is missing, empty, damaged, of no accepted format,
    without a row of the pair in langs, or without one usable segment.
    """
    path = Path(path)
    asked = _asked_pairs(path, langs)
    tally = Tally(path, skip_bad_rows)
    key, segments = _read(ReadRequest(path, asked), None if references is None else Path(references), tally)
    if not segments:
        raise nothing_usable(tally, asked)
    _refuse_missing(path, asked, segments)
    return DataSet(
        name=path.name,
        format=key,
        segments=tuple(segments),
        digest=segments_digest(segments),
        bad_rows=tuple(sorted(tally.bad_rows, key=lambda row: row.line)),
        left_out=tally.left_out,
    )


def read_datasets(
    paths: Sequence[str | Path],
    *,
    references: str | Path | None = None,
    langs: str | Sequence[str] | None = None,
    skip_bad_rows: bool = False,
) -> DataSet:
    """Read one data set from files of any formats, in their order; of one file what `read_dataset` gives.

    langs: the pairs that are taken, each from every file that has it. A file that serves either direction and whose
    name says one (`valid.cs-en.json`) serves the other only where no further file's name says that one. A segment
    that an earlier file has, with the same pair, source and references, is left out and counted. Ids, and those of
    documents that no file names, begin with the file's place in the list.

    Raises DataError for what `read_dataset` refuses, references of several files, a file named twice, and a pair of
    langs that no file has.
    """
    files = [Path(path) for path in paths]
    if len(files) == 1:
        return read_dataset(files[0], references=references, langs=langs, skip_bad_rows=skip_bad_rows)
    _refuse_beside_others(files, references)
    whole = Path(name_files(files))
    asked = _asked_pairs(whole, langs)
    found: list[Segment] = []
    earlier: set[_Text] = set()
    counts: Counter[str] = Counter()
    bad_rows: list[BadRow] = []
    formats: dict[str, None] = {}
    for number, file in enumerate(files, start=1):
        tally = Tally(file, skip_bad_rows)
        key, segments = _read(ReadRequest(file, _pairs_from(file, files, asked)), None, tally)
        taken = [segment for segment in segments if not asked or segment.langs in asked]
        counts[of_other_pairs(asked)] += len(segments) - len(taken)
        if not taken and (not asked or tally.bad_rows):
            raise nothing_usable(tally, asked)
        fresh = [segment for segment in taken if _text_of(segment) not in earlier]
        counts[IN_EARLIER] += len(taken) - len(fresh)
        earlier.update(map(_text_of, fresh))
        found += [_placed(segment, number) for segment in fresh]
        counts.update(dict(tally.left_out))
        bad_rows += [replace(row, reason=f"{file.name}: {row.reason}") for row in tally.bad_rows]
        formats[key] = None
    _refuse_missing(whole, asked, found)
    return DataSet(
        name=whole.name,
        format=", ".join(formats),
        segments=tuple(found),
        digest=segments_digest(found),
        bad_rows=tuple(bad_rows),
        left_out=tuple(sorted((reason, count) for reason, count in counts.items() if count)),
    )


def _refuse_beside_others(files: Sequence[Path], references: str | Path | None) -> None:
    if references is not None:
        rule = f"this is one of {len(files)} files, and references go with one alone"
        way_out = "Put each file's references beside it under the same name (x.de beside x.en)."
        raise DataError(files[0], None, str(references), rule, way_out)
    for at, file in enumerate(files):
        if file.resolve() in {other.resolve() for other in files[:at]}:
            raise DataError(file, None, None, "this file is named twice", "Name it once.")


def _pairs_from(file: Path, files: Sequence[Path], asked: tuple[str, ...]) -> tuple[str, ...]:
    """The pairs to read from one of several files; none where what it holds is to tell."""
    own = named_direction(file)
    if own is None or not asked:
        return asked
    turned = "-".join(reversed(split_pair(own)))
    served = {named_direction(other) for other in files if other != file}
    pairs = tuple(pair for pair in asked if pair != turned or turned not in served)
    return pairs if {own, turned} & set(pairs) else ()


def _text_of(segment: Segment) -> _Text:
    return segment.langs, segment.source, segment.references


def _placed(segment: Segment, number: int) -> Segment:
    """The segment of the file of this number, with ids that no other file's have."""
    named = segment.doc_id not in (segment.id, both_directions_id(segment))
    return replace(
        segment, id=f"{number}:{segment.id}", doc_id=segment.doc_id if named else f"{number}:{segment.doc_id}"
    )


def _refuse_missing(path: Path, asked: Sequence[str], segments: Iterable[Segment]) -> None:
    there = sorted({segment.langs for segment in segments})
    missing = [pair for pair in asked if pair not in there]
    if missing:
        rule = f"no row has the pair {' or '.join(missing)} that langs requires; there are {', '.join(there) or 'none'}"
        raise DataError(path, None, None, rule, "Name a file that has it, or leave it out of langs (--langs).")


def _read(request: ReadRequest, references: Path | None, tally: Tally) -> tuple[str, list[Segment]]:
    path = request.path
    if references is None and (kind := table_kind(path)) is not None:
        return _from_rows(table_rows(path, kind), request, tally)
    content = read_content(path)
    if references is not None:
        return parallel_text.KEY, _read_text(content, references, request, tally)
    holds_json = is_json(content)
    layout = layout_of(content, path, named_only=holds_json)
    both = [] if holds_json else _sides(request)
    if both and (layout is None or layout.header is None):
        return parallel_text.KEY, _read_sides(both, tally)
    if layout is not None:
        named = request.langs or named_direction(path)
        return _from_rows(rows_of(layout, [content], tally, named), request, tally)
    if holds_json:
        return _from_rows(json_rows([content], tally), request, tally)
    raise _text_alone(path, content)


def _from_rows(rows: Iterable[JsonRow], request: ReadRequest, tally: Tally) -> tuple[str, list[Segment]]:
    key, recognised = recognise(rows, tally, request.asked)
    return key, FORMATS[key].read(recognised, request, tally)


def _asked_pairs(path: Path, langs: str | Sequence[str] | None) -> tuple[str, ...]:
    named = [langs] if isinstance(langs, str) else langs or ()
    try:
        return tuple(dict.fromkeys(normalise_pair(one) for one in named))
    except UnknownLanguage as error:
        way_out = "Pass langs as two ISO 639 codes, source first: en-de, cs-uk, en-pt_BR, ces-deu."
        raise DataError(path, None, ", ".join(named), str(error), way_out) from None


def _sides(request: ReadRequest) -> list[tuple[ReadRequest, Path]]:
    """What to read of a parallel text that lies beside the file: each direction with its file of references."""
    path, asked = request.path, request.asked
    if len(asked) < 2:
        both = parallel_text.beside(path, request.langs)
        return [] if both is None else [(ReadRequest(both[0], asked), both[1])]
    found = [(langs, parallel_text.beside(path, langs)) for langs in asked]
    return [(ReadRequest(both[0], (langs,)), both[1]) for langs, both in found if both is not None]


def _read_sides(both: Sequence[tuple[ReadRequest, Path]], tally: Tally) -> list[Segment]:
    segments = [
        segment
        for request, beside in both
        for segment in _read_text(read_content(request.path), beside, request, tally)
    ]
    if len(both) == 1:
        return segments
    # A line that has no text is at fault once, in whatever direction.
    tally.bad_rows = list({row.line: row for row in reversed(tally.bad_rows)}.values())
    return [replace(segment, doc_id=both_directions_id(segment)) for segment in segments]


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
