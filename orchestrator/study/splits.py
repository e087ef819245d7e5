"""Keeps apart what selects, what judges and what is calibrated on: a shared source is told or left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from search_spaces.errors import StudyError
from search_spaces.wording import pluralize
from workers.reading.segments import DataSet, Segment, segments_digest

# How many of the shared texts are shown, and how much of each.
SHOWN, SHOWN_CHARACTERS = 3, 40
IN_TEST = "sources that are in the test data too"


def separate_splits(data: Mapping[str, DataSet], leave_out: bool) -> dict[str, DataSet]:
    """The data sets by split, none of dev's segments being one of test's by direction and source.

    Raises StudyError that counts what both have and shows the first few; with `leave_out` these are left out of dev
    and counted there, and it is raised only where nothing of dev would stay.
    """
    if "test" not in data:
        return dict(data)
    judged = {(segment.langs, segment.source) for segment in data["test"].segments}
    shared = [segment for segment in data["dev"].segments if (segment.langs, segment.source) in judged]
    if not shared:
        return dict(data)
    there = pluralize(len(data["dev"].segments), "segment")
    if len(shared) == len(data["dev"].segments):
        raise StudyError(
            f"all {there} of the dev data are in the test data too; what selects must not be what judges: name other "
            "data with --data or --test"
        )
    if not leave_out:
        raise StudyError(
            f"the dev and the test data share {pluralize(len(shared), 'source')}: {quote_sources(shared)}; what "
            "selects must not be what judges: take them out of one, or leave them out of dev with --skip-bad-rows"
        )
    return {**data, "dev": without(data["dev"], shared, IN_TEST)}


def without(dataset: DataSet, segments: Iterable[Segment], reason: str) -> DataSet:
    """The data set without these of its segments, which are counted as left out for this reason."""
    gone = {segment.id for segment in segments}
    kept = tuple(segment for segment in dataset.segments if segment.id not in gone)
    left_out = tuple(sorted((*dataset.left_out, (reason, len(dataset.segments) - len(kept)))))
    return replace(dataset, segments=kept, digest=segments_digest(kept), left_out=left_out)


def quote_sources(segments: Sequence[Segment]) -> str:
    """The first few sources with their pairs, and how many more there are."""
    shown = [f"{shorten(segment.source)!r} ({segment.langs})" for segment in segments[:SHOWN]]
    return ", ".join(shown) + more(len(segments))


def more(count: int) -> str:
    """How many are not among those shown: ` and 5 more`, or nothing."""
    return f" and {count - SHOWN:,} more" if count > SHOWN else ""


def shorten(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[: SHOWN_CHARACTERS - 1]}…"


def spell_left_out(dataset: DataSet) -> list[str]:
    """What of a file is not used, in words; empty when all of it is."""
    lines = [f"{dataset.name}: {count:,} left out ({reason})" for reason, count in dataset.left_out]
    if dataset.bad_rows:
        first = dataset.bad_rows[0]
        skipped = f"{len(dataset.bad_rows)} bad rows skipped, the first in line {first.line} ({first.reason})"
        lines.append(f"{dataset.name}: {skipped}")
    return lines
