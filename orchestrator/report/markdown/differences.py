"""What a compressed model says that the baseline does not: counts over all segments, and the sentences that differ
most, all chosen by what was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.ledger.records import read_lines
from orchestrator.number_format import signed
from orchestrator.report.markdown.syntax import escape, percent, short, table
from orchestrator.results.points import Point
from workers.reading.segments import Segment
from workers.scoring.metrics import segment_scores
from workers.scoring.sanity import IN_WORDS, failed_checks

# Points of chrF by which a segment's score has clearly moved.
MOVED = 10.0
# Of how much longer or shorter a translation is than the baseline's.
LONGER = 0.2


@dataclass(frozen=True, slots=True)
class Example:
    """A segment that both translated."""

    why: str
    """What it was chosen by, in words."""
    segment: Segment
    baseline: str
    model: str
    moved: float
    """The model's chrF of the segment minus the baseline's."""


@dataclass(frozen=True, slots=True)
class Differences:
    """Of one model beside the baseline, on one split. number: its trial's on dev."""

    number: int
    segments: int
    same: int
    """Segments with the same translation, letter for letter."""
    better: int
    worse: int
    """Segments whose chrF rose, or fell, by at least `MOVED` points."""
    longer: int
    shorter: int
    """Segments whose translation is longer, or shorter, by at least the share `LONGER`."""
    length: float
    """Characters of all its translations over those of the baseline's."""
    failed: tuple[tuple[str, int, int], ...]
    """(check, segments that fail it, those of the baseline that do), where any does."""
    examples: tuple[Example, ...]


def differences(folder: Path, segments: Sequence[Segment], baseline: Point, model: Point, number: int) -> Differences:
    """The differences of two points of one split. Raises StudyError where hypotheses are missing."""
    theirs, ours = (read_lines(folder, point.record) for point in (baseline, model))
    before, after = [line["text"] for line in theirs], [line["text"] for line in ours]
    moved = [
        now["chrf"] - then["chrf"]
        for then, now in zip(
            segment_scores(("chrf",), segments, before), segment_scores(("chrf",), segments, after), strict=True
        )
    ]
    lengths = [(len(now) - len(then)) / max(len(then), 1) for then, now in zip(before, after, strict=True)]
    fails = [
        [failed_checks(segment, line["text"], line["truncated"]) for segment, line in zip(segments, lines, strict=True)]
        for lines in (theirs, ours)
    ]
    counts = [Counter(check for row in rows for check in row) for rows in fails]
    new = [len(set(now) - set(then)) for then, now in zip(*fails, strict=True)]
    other = [at for at, (then, now) in enumerate(zip(before, after, strict=True)) if then != now]
    chosen = _chosen(other, moved, lengths, new)
    return Differences(
        number=number,
        segments=len(segments),
        same=len(segments) - len(other),
        better=sum(one >= MOVED for one in moved),
        worse=sum(one <= -MOVED for one in moved),
        longer=sum(one >= LONGER for one in lengths),
        shorter=sum(one <= -LONGER for one in lengths),
        length=sum(map(len, after)) / max(sum(map(len, before)), 1),
        failed=tuple(
            (check, counts[1][check], counts[0][check]) for check in IN_WORDS if counts[0][check] + counts[1][check]
        ),
        examples=tuple(Example(why, segments[at], before[at], after[at], moved[at]) for why, at in chosen),
    )


def _chosen(
    other: Sequence[int], moved: Sequence[float], lengths: Sequence[float], new: Sequence[int]
) -> list[tuple[str, int]]:
    """Three segments: the one that fails most checks that the baseline's does not, or else whose chrF rose most; the
    one whose chrF fell most; the one whose length changed most."""
    found: dict[int, str] = {}

    def take(why: str, worth: Sequence[float]) -> None:
        left = [at for at in other if at not in found]
        if left:
            best = max(left, key=lambda at: (worth[at], -at))
            if worth[best] > 0:
                found[best] = why

    take("the largest fall of chrF", [-one for one in moved])
    take("checks failed that the baseline passes", new)
    take("the largest change of length", [abs(one) for one in lengths])
    if len(found) < 3:
        take("the largest rise of chrF", moved)
    return [(why, at) for at, why in found.items()]


def differences_parts(found: Differences, label: str, quotes: bool = True) -> list[str]:
    """The counts as a table, and the sentences below it: quoted, or named by their ids in the data."""
    of = found.segments
    rows = [
        ["the same, letter for letter", _share(found.same, of)],
        [f"chrF of the segment at least {MOVED:g} higher", _share(found.better, of)],
        [f"chrF of the segment at least {MOVED:g} lower", _share(found.worse, of)],
        [f"at least {percent(LONGER, 0)} longer", _share(found.longer, of)],
        [f"at least {percent(LONGER, 0)} shorter", _share(found.shorter, of)],
        *([f"{IN_WORDS[check]} (the baseline: {theirs:,})", _share(ours, of)] for check, ours, theirs in found.failed),
    ]
    said = (
        f"Trial {found.number} ({escape(label)}) beside the baseline, on {of:,} segments. All its translations "
        f"together have {percent(found.length)} of the baseline's characters."
    )
    parts = [said, table([("Translations that are", True), ("Segments", False)], rows)]
    if not quotes:
        named = [
            f"{escape(one.segment.id)} ({escape(one.segment.langs)}, chrF {signed(one.moved, 1)}: {one.why})"
            for one in found.examples
        ]
        return [*parts, *([f"Segments to look at, by their ids in the data: {'; '.join(named)}."] if named else [])]
    for example in found.examples:
        parts.append(
            f"**Chosen by {example.why}** ({escape(example.segment.langs)}, chrF {signed(example.moved, 1)}):\n\n"
            + "\n".join(
                f"- {who}: {escape(short(what)) or '(empty)'}"
                for who, what in (
                    ("source", example.segment.source),
                    ("reference", example.segment.references[0]),
                    ("baseline", example.baseline),
                    (f"trial {found.number}", example.model),
                )
            )
        )
    return parts


def _share(count: int, of: int) -> str:
    return f"{count:,} ({percent(count / of)})"
