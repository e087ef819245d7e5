"""Read ALMA's parallel data: a row is {"translation": {"de": text, "en": text}}, in an array or one a line.

https://github.com/fe1ixxu/ALMA, `human_written_data`. A row does not say which language is the source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, permutations
from pathlib import Path

from workers.languages.codes import UnknownLanguage, normalise_language, normalise_pair, split_pair
from workers.reading import fields as check
from workers.reading.errors import OR_SKIP, DataError, OtherPair, RowFault
from workers.reading.segments import Segment, both_directions_id
from workers.reading.tally import JsonRow, ReadRequest, Tally, one_a_row, several_a_row

_CODE = "[a-z]{2,3}(?:_[A-Z][A-Za-z]{1,3})?"
_NAMED_DIRECTION = re.compile(
    rf"(?:^|[^A-Za-z])({_CODE}-{_CODE})\.(?:jsonl?|csv|tsv|tab|parquet|arrow|xlsx)(?:\.gz)?$", re.ASCII
)


def read(rows: Iterable[JsonRow], request: ReadRequest, tally: Tally) -> list[Segment]:
    """The segments in the file's order; their ids are the pair and the row's ordinal (1-based).

    The direction is the caller's langs or else the end of the file's name (test.en-cs.json). Where the caller wants
    several pairs, a row serves each of them that its languages allow: first all segments of the first pair, and the two
    directions of a row are one document. Rows of two languages that serve no pair of the caller's are left out and
    counted in the tally. Raises DataError when neither tells the direction.
    """
    if len(request.asked) > 1:
        served = several_a_row(rows, tally, lambda row: _every_direction(row, request.asked))
        return sorted(served, key=lambda segment: request.asked.index(segment.langs))
    remaining = iter(rows)
    first = next(remaining)
    langs = request.langs or named_direction(request.path)
    if langs is None:
        raise _no_direction(first, request.path)
    return one_a_row(chain([first], remaining), tally, lambda row: _segment(row, langs, request.asked))


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


def _every_direction(row: JsonRow, asked: tuple[str, ...]) -> list[Segment]:
    served = _select(check.mapping(row.fields, "translation"), asked)
    segments = [_segment(row, langs) for langs in served or asked[:1]]
    return [replace(segment, doc_id=both_directions_id(segment)) for segment in segments]


def _segment(row: JsonRow, langs: str, asked: tuple[str, ...] = ()) -> Segment:
    translation = check.mapping(row.fields, "translation")
    if asked:
        _select(translation, asked)
    source_language, target_language = split_pair(langs)
    source = _side(translation, source_language, "source")
    reference = _side(translation, target_language, "reference")
    identity = f"{langs}:{row.number}"
    return Segment(identity, langs, source, (reference,), doc_id=identity, domain="")


def _select(translation: dict[str, object], asked: tuple[str, ...]) -> list[str]:
    """Those of the pairs whose languages the row has. Raises OtherPair for a row of two or more languages that has
    none."""
    there = sorted({code for key in translation if (code := language_code(key)) is not None})
    served = [langs for langs in asked if set(split_pair(langs)) <= set(there)]
    if len(there) > 1 and not served:
        raise OtherPair((f"{one}-{other}" for one, other in permutations(there, 2)), asked)
    return served


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
