"""Read one data set: get the bytes, recognise the format by its content, and have its module read it."""

from pathlib import Path

from workers.reading import parallel_text
from workers.reading.errors import DataError, RowFault
from workers.reading.files import decode, read_content
from workers.reading.formats import ACCEPTED, FORMATS, nothing_usable, recognise
from workers.reading.languages import UnknownLanguage, normalise_pair
from workers.reading.rows import is_json, json_rows, starts_with_object
from workers.reading.segments import DataSet, Segment, segments_digest
from workers.reading.tally import Request, Tally


def read_dataset(
    path: str | Path,
    *,
    references: str | Path | None = None,
    langs: str | None = None,
    skip_bad_rows: bool = False,
) -> DataSet:
    """Read a data file, plain or gzip, in any of the formats in `formats.FORMATS`, or a pair of text files.

    `references` is the file of reference lines if `path` holds source lines. `langs` is a pair, such as "en-de":
    the one that is read of a file whose rows name theirs, rows of other pairs being counted in the result's
    `left_out`; the file's own where it names none. With `skip_bad_rows` a bad row is left out and listed in the
    result's `bad_rows`; otherwise the first one is raised. Text is kept as given but for the white space around it.

    Raises DataError for a bad row, and in any case for a file that is missing, empty, damaged, of no accepted
    format, without a row of the pair asked for, or without one usable segment.
    """
    path = Path(path)
    request = Request(path, _asked_pair(path, langs))
    tally = Tally(path, skip_bad_rows)
    content = read_content(path)
    if references is not None:
        key, segments = parallel_text.KEY, _read_text(content, Path(references), request, tally)
    elif is_json(content):
        key, rows = recognise(json_rows([content], tally), tally)
        segments = FORMATS[key].read(rows, request, tally)
    else:
        raise _text_alone(path, content)
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


def _asked_pair(path: Path, langs: str | None) -> str | None:
    try:
        return None if langs is None else normalise_pair(langs)
    except UnknownLanguage as error:
        way_out = "Pass langs as two ISO 639 codes, source first: en-de, cs-uk, en-pt_BR, ces-deu."
        raise DataError(path, None, langs, str(error), way_out) from None


def _read_text(content: bytes, reference_path: Path, request: Request, tally: Tally) -> list[Segment]:
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
        return DataError(path, 1, fault.value, fault.rule, f"Convert the file to UTF-8. {ACCEPTED}")
    rule = "the file holds no JSON rows, and source text alone has no references"
    way_out = (
        "If it is text given as --data, pass the file of its references: --references FILE (references=FILE). Any "
        "other file, such as --test, has them inside: write it as JSON lines of {src, ref, langs}."
    )
    return DataError(path, 1, first, rule, f"{way_out} {ACCEPTED}")
