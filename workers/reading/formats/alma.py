"""Read ALMA's parallel data: a row is {"translation": {"de": text, "en": text}}, in an array or one a line.

https://github.com/fe1ixxu/ALMA, `human_written_data`. A row does not say which language is the source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain, permutations
from pathlib import Path

from workers.languages.codes import UnknownLanguage, normalise_language, normalise_pair, split_pair
from workers.reading import fields as check
from workers.reading.errors import OR_SKIP, DataError, OtherPair, RowFault
from workers.reading.segments import Segment
from workers.reading.tally import JsonRow, ReadRequest, Tally, one_a_row

_CODE = "[a-z]{2,3}(?:_[A-Z][A-Za-z]{1,3})?"
_NAMED_DIRECTION = re.compile(
    rf"(?:^|[^A-Za-z])({_CODE}-{_CODE})\.(?:jsonl?|csv|tsv|tab|parquet|arrow|xlsx)(?:\.gz)?$", re.ASCII
)


def read(rows: Iterable[JsonRow], request: ReadRequest, tally: Tally) -> list[Segment]:
    """The segments in the file's order; their ids are the pair and the row's ordinal (1-based).

    The direction is the caller's langs or else the end of the file's name (test.en-cs.json). Rows of two languages that
    are not both those of the caller's langs are left out and counted in the tally. Raises DataError when neither tells
    the direction.
    """
    remaining = iter(rows)
    first = next(remaining)
    langs = request.langs or named_direction(request.path)
    if langs is None:
        raise _no_direction(first, request.path)
    return one_a_row(chain([first], remaining), tally, lambda row: _segment(row, langs, request.langs))


def named_direction(path: Path) -> str | None:
    """The pair that a file's name ends in: "en-cs" for test.en-cs.json.gz; None without one."""
    found = _NAMED_DIRECTION.search(path.name)
    try:
        return normalise_pair(found[1]) if found else None
    except UnknownLanguage:
        return None


def _no_direction(first: JsonRow, path: Path) -> DataError:
    translation = first.fields.get("translation")
    keys = [key for key in translation if language_code(key)] if isinstance(translation, dict) else []
    one, other = [*keys, "de", "en"][:2] if len(keys) != 1 else (keys[0], "en")
    rule = "neither the rows nor the file's name say which language is the source"
    way_out = f"Pass langs: {one}-{other} or {other}-{one}, source first."
    return DataError(path, first.line, ", ".join(keys) or None, rule, way_out)


def _segment(row: JsonRow, langs: str, asked: str | None) -> Segment:
    translation = check.mapping(row.fields, "translation")
    if asked is not None:
        _select(translation, asked)
    source_language, target_language = split_pair(langs)
    source = _side(translation, source_language, "source")
    reference = _side(translation, target_language, "reference")
    identity = f"{langs}:{row.number}"
    return Segment(identity, langs, source, (reference,), doc_id=identity, domain="")


def _select(translation: dict[str, object], asked: str) -> None:
    """Raise OtherPair for a row of two or more languages that lacks one of the pair's."""
    there = sorted({code for key in translation if (code := language_code(key)) is not None})
    if len(there) > 1 and not set(split_pair(asked)) <= set(there):
        raise OtherPair((f"{one}-{other}" for one, other in permutations(there, 2)), asked)


def _side(translation: dict[str, object], language: str, what: str) -> str:
    for key, value in translation.items():
        if key == language or language_code(key) == language:
            return check.clean_text(value, f"translation.{key}", what)
    way_out = f"Pass langs with two of the row's languages, source first. {OR_SKIP}"
    rule = f"`translation` has no {language}, the {what}'s language"
    raise RowFault(rule, "it has " + (", ".join(translation) or "nothing"), way_out)


def language_code(key: str) -> str | None:
    """The normalised code of a key that names a language, else None."""
    try:
        return normalise_language(key)
    except UnknownLanguage:
        return None
