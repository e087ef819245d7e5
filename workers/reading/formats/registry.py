"""List the accepted formats of JSON rows, and tell by a row's keys which one a file has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from workers.reading.columns import columns_of
from workers.reading.errors import OR_SKIP, DataError, RowFault
from workers.reading.formats import alma, plain_json, wmt24_esa, wmt24pp, wmt_test, wmt_unified
from workers.reading.segments import Segment
from workers.reading.tally import JsonRow, ReadRequest, Tally


@dataclass(frozen=True, slots=True)
class Format:
    """One format: what it is, the keys its rows have, those of them that tell it apart, and its reader."""

    what: str
    keys: tuple[str, ...]
    telling: tuple[str, ...]
    read: Callable[[Iterable[JsonRow], ReadRequest, Tally], list[Segment]]


FORMATS: dict[str, Format] = {
    "wmt24_esa": Format(
        "WMT24 ESA annotations",
        ("langs", "line_id", "src", "tgt", "system"),
        ("system", "line_id"),
        wmt24_esa.read,
    ),
    "wmt_unified": Format(
        "WMT's unified human evaluation",
        ("doc_id", "src_text", "tgt_text"),
        ("tgt_text",),
        wmt_unified.read,
    ),
    "wmt_test": Format(
        "WMT's general test sets",
        ("doc_id", "src_lang", "tgt_lang", "src_text", "refs"),
        ("src_text", "refs"),
        wmt_test.read,
    ),
    "wmt24pp": Format(
        "WMT24++",
        ("lp", "segment_id", "is_bad_source", "source", "target"),
        ("lp", "source", "target", "is_bad_source"),
        wmt24pp.read,
    ),
    "alma": Format("ALMA, as lines or an array", ("translation",), ("translation",), alma.read),
    "plain_json": Format("plain rows", ("src", "ref", "langs"), ("src", "ref"), plain_json.read),
}

PLAIN = "plain_json"
ACCEPTED = (
    "Write JSON lines of {src, ref, langs}, such a table, or text x.en beside x.de; the README lists all formats."
)


def recognise(rows: Iterable[JsonRow], tally: Tally, asked: Collection[str] = ()) -> tuple[str, Iterator[JsonRow]]:
    """The registry key of a file's format, and its rows from the one that told it on.

    The first row decides; where bad rows are skipped, the first that fits a format. Rows of no format whose keys name a
    source and its translation (`columns`) come as plain rows. asked: the pairs that are wanted of those that
    are named by their languages. Raises DataError, naming the keys seen and what is missing, when no row fits.
    """
    remaining = iter(rows)
    first_misfit: DataError | None = None
    for row in remaining:
        whole = chain([row], remaining)
        key = next((key for key, one in FORMATS.items() if row.fields.keys() >= set(one.telling)), None)
        if key is not None and (key != PLAIN or "langs" in row.fields):
            return key, whole
        columns = columns_of(list(row.fields))
        if columns is not None and (key is None or columns.langs or columns.sides):
            key = "alma" if columns.says_no_direction(asked) else PLAIN
            return key, (replace(one, fields=columns.plain(one.fields, asked)) for one in whole)
        if key is not None:
            return key, whole
        fault = _misfit(row)
        first_misfit = first_misfit or DataError(tally.path, row.line, fault.value, fault.rule, fault.way_out)
        tally.refuse(row.line, fault)
    raise first_misfit or nothing_usable(tally)


def nothing_usable(tally: Tally, asked: Collection[str] = ()) -> DataError:
    """The error for a file that was read to its end and gave no segment. asked: the caller's pairs."""
    others = ", ".join(sorted(tally.other_pairs))
    if others and len(tally.left_out) == 1 and not tally.bad_rows:
        rule = f"no row has the pair {' or '.join(asked)} that langs requires; the file has {others}"
        way_out = "Pass one of the file's pairs as langs (--langs), or leave langs out to read all of them."
        return DataError(tally.path, None, None, rule, way_out)
    counts = [f"left out: {count} ({reason})" for reason, count in tally.left_out]
    if tally.bad_rows:
        first = tally.bad_rows[0]
        counts.insert(0, f"bad rows: {len(tally.bad_rows)} (the first in line {first.line}: {first.reason})")
    if others:
        counts.append(f"the other pairs: {others}")
    rule = "no usable segment is left: " + ("; ".join(counts) or "the file has no row")
    way_out = (
        "Correct the rows, or pass another file." if tally.bad_rows else f"Pass a file with references. {ACCEPTED}"
    )
    return DataError(tally.path, None, None, rule, way_out)


def _misfit(row: JsonRow) -> RowFault:
    keys = row.fields.keys()
    value = "keys: " + ", ".join(keys)
    # A format is near by the share of its keys that are there, so that a row which only lacks its reference is told so.
    shares = {key: len(keys & set(one.keys)) / len(one.keys) for key, one in FORMATS.items()}
    nearest = max(shares, key=lambda key: shares[key])
    if not shares[nearest]:
        return RowFault("the row's keys fit no accepted format", value, f"{ACCEPTED} {OR_SKIP}")
    lacking = ", ".join(key for key in FORMATS[nearest].keys if key not in keys)
    if nearest == PLAIN and "src" in keys and "ref" not in keys:
        way_out = "Give each row its reference: a source alone can't be scored."
        return RowFault("the row has a source and no reference: `ref` is missing", value, f"{way_out} {OR_SKIP}")
    rule = f"the row's keys fit no accepted format; the nearest is {FORMATS[nearest].what}, which also has {lacking}"
    return RowFault(rule, value, ACCEPTED)
