"""Keep account of a read: what was refused and what was left out, so that nothing goes in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.reading.errors import DataError, OtherPair, RowFault, shorten
from workers.reading.segments import BadRow, Segment


@dataclass(frozen=True, slots=True)
class JsonRow:
    """One JSON object of a file: its ordinal among the rows and the line it starts on (both 1-based)."""

    number: int
    line: int
    fields: dict[str, object]


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What the caller asked to read: the file and, if given, the normalised language pairs."""

    path: Path
    asked: tuple[str, ...] = ()

    @property
    def langs(self) -> str | None:
        """The one pair that was asked for, which is that of a file that names none; None for none or several."""
        return self.asked[0] if len(self.asked) == 1 else None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A sound row that the format says not to use, and why."""

    reason: str


class Tally:
    """The bad rows and the rows left out of one read.

    skip: whether bad rows are skipped; otherwise the first one ends the read. other_pairs: the pairs of the rows left
    out because the caller wants another one.
    """

    def __init__(self, path: Path, skip: bool) -> None:
        self.path = path
        self.skip = skip
        self.bad_rows: list[BadRow] = []
        self.other_pairs: set[str] = set()
        self._left_out: Counter[str] = Counter()

    def refuse(self, line: int, fault: RowFault) -> None:
        """Record a bad row, or raise it as a DataError if bad rows are not to be skipped."""
        if not self.skip:
            file = fault.file or self.path
            raise DataError(file, line, fault.value, fault.rule, fault.way_out) from None
        reason = f"{fault.file.name}: {fault.rule}" if fault.file else fault.rule
        value = "" if fault.value is None else shorten(fault.value)
        self.bad_rows.append(BadRow(line, reason, value))

    def leave_out(self, reason: str) -> None:
        """Count one row or segment that the format says not to use."""
        self._left_out[reason] += 1

    def pass_over(self, other: OtherPair) -> None:
        """Count one row of another pair than the one asked for."""
        self.other_pairs.update(other.pairs)
        self._left_out[of_other_pairs(other.asked)] += 1

    @property
    def left_out(self) -> tuple[tuple[str, int], ...]:
        """What was left out, as (reason, count), sorted."""
        return tuple(sorted(self._left_out.items()))


def of_other_pairs(asked: Collection[str]) -> str:
    """Why rows are left out that are of none of the pairs that the caller wants."""
    return f"rows of other pairs than {', '.join(asked)}"


def one_a_row(rows: Iterable[JsonRow], tally: Tally, parse: Callable[[JsonRow], Segment | LeftOut]) -> list[Segment]:
    """The segments of a format whose rows are segments, in the file's order.

    A row whose id an earlier row has is a bad row. Of a row of another pair nothing but the pair is read.
    """

    def parsed(row: JsonRow) -> Sequence[Segment] | LeftOut:
        found = parse(row)
        return found if isinstance(found, LeftOut) else (found,)

    return several_a_row(rows, tally, parsed)


def several_a_row(
    rows: Iterable[JsonRow], tally: Tally, parse: Callable[[JsonRow], Sequence[Segment] | LeftOut]
) -> list[Segment]:
    """The same of a format whose rows may be segments of several pairs."""
    first_lines: dict[str, int] = {}
    segments: list[Segment] = []
    for row in rows:
        try:
            parsed = parse(row)
            if isinstance(parsed, LeftOut):
                tally.leave_out(parsed.reason)
                continue
            for segment in parsed:
                if segment.id in first_lines:
                    raise RowFault(f"duplicate id: line {first_lines[segment.id]} has it already", segment.id)
        except OtherPair as other:
            tally.pass_over(other)
            continue
        except RowFault as fault:
            tally.refuse(row.line, fault)
            continue
        first_lines.update(dict.fromkeys((segment.id for segment in parsed), row.line))
        segments.extend(parsed)
    return segments
