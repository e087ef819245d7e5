"""List the accepted formats of JSON rows, and tell by a row's keys which one a file has."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from workers.reading import alma, plain_json, wmt24_esa, wmt24pp, wmt_unified
from workers.reading.errors import OR_SKIP, DataError, RowFault
from workers.reading.segments import Segment
from workers.reading.tally import Request, Row, Tally


@dataclass(frozen=True, slots=True)
class Format:
    """One format: what it is, the keys its rows have, those of them that tell it apart, and its reader."""

    what: str
    keys: tuple[str, ...]
    telling: tuple[str, ...]
    read: Callable[[Iterable[Row], Request, Tally], list[Segment]]


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
    "wmt24pp": Format(
        "WMT24++",
        ("lp", "segment_id", "is_bad_source", "source", "target"),
        ("lp", "source", "target"),
        wmt24pp.read,
    ),
    "alma": Format("ALMA, as lines or an array", ("translation",), ("translation",), alma.read),
    "plain_json": Format("plain rows", ("src", "ref", "langs"), ("src", "ref"), plain_json.read),
}

ACCEPTED = (
    "Accepted are, plain or gzip: "
    + "; ".join(f"{one.what} {{{', '.join(one.keys)}}}" for one in FORMATS.values())
    + "; two parallel text files, the second passed with --references (references=...)."
)


def recognise(rows: Iterable[Row], tally: Tally) -> tuple[str, Iterator[Row]]:
    """Return the registry key of a file's format, and its rows from the one that told it on.

    The first row decides; where bad rows are skipped, the first that fits a format. Raises DataError, naming
    the accepted formats and the keys seen, if none does.
    """
    remaining = iter(rows)
    first_misfit: DataError | None = None
    for row in remaining:
        for key, one in FORMATS.items():
            if row.fields.keys() >= set(one.telling):
                return key, chain([row], remaining)
        fault = _misfit(row)
        first_misfit = first_misfit or DataError(tally.path, row.line, fault.value, fault.rule, fault.way_out)
        tally.refuse(row.line, fault)
    raise first_misfit or nothing_usable(tally)


def nothing_usable(tally: Tally, asked: str | None = None) -> DataError:
    """Return the error for a file that was read to its end and gave no segment; `asked` is the caller's pair."""
    others = ", ".join(sorted(tally.other_pairs))
    if others and len(tally.left_out) == 1 and not tally.bad_rows:
        rule = f"no row is of the pair {asked}, which langs asks for; the file has {others}"
        way_out = "Pass one of the file's pairs as langs (--langs), or leave langs out to read all of them."
        return DataError(tally.path, None, None, rule, way_out)
    counts = [f"left out: {count} ({reason})" for reason, count in tally.left_out]
    if tally.bad_rows:
        first = tally.bad_rows[0]
        counts.insert(0, f"bad rows: {len(tally.bad_rows)} (the first in line {first.line}: {first.reason})")
    if others:
        counts.append(f"the other pairs: {others}")
    rule = "no usable segment is left: " + ("; ".join(counts) or "the file has no row")
    way_out = "Pass a file with references: rows of the system refA, or one of the other formats. "
    return DataError(tally.path, None, None, rule, way_out + ACCEPTED)


def _misfit(row: Row) -> RowFault:
    keys = row.fields.keys()
    nearest = max(FORMATS, key=lambda key: len(keys & set(FORMATS[key].keys)))
    lacking = [key for key in FORMATS[nearest].keys if key not in keys]
    is_near = len(keys & set(FORMATS[nearest].keys)) > 0
    hint = f"; the nearest is {FORMATS[nearest].what}, which also has {', '.join(lacking)}" if is_near else ""
    way_out = f"{ACCEPTED} {OR_SKIP}"
    return RowFault(f"the row's keys fit no accepted format{hint}", "keys: " + ", ".join(keys), way_out)
