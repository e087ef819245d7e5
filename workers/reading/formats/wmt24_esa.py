"""Read WMT24's ESA annotations: a row is one annotator's score of one system's output of one segment.

The output (`tgt`) of a system is never a reference: the reference is the `tgt` of the rows whose system is
refA, joined on (langs, line_id). The file is `wmt24_esa.jsonl` of
https://github.com/wmt-conference/wmt24-news-systems, which `humeval/merge_to_jsonl.py` there writes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from workers.reading import fields as check
from workers.reading.errors import OtherPair, RowFault
from workers.reading.segments import NO_REFERENCE, Segment
from workers.reading.tally import JsonRow, ReadRequest, Tally

REFERENCE_SYSTEM = "refA"
LOWEST_SCORE, HIGHEST_SCORE = 0.0, 100.0


@dataclass(frozen=True, slots=True)
class _Annotation:
    langs: str
    line_id: int
    segment: tuple[str, str, str]
    reference: str | None
    score: float | None


@dataclass(slots=True)
class _Gathered:
    first_line: int
    segment: tuple[str, str, str]
    references: dict[str, None] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)


def read(rows: Iterable[JsonRow], request: ReadRequest, tally: Tally) -> list[Segment]:
    """One segment for each (langs, line_id) with a reference: pairs as they appear, line_ids sorted.

    A segment's human score is the mean of `esa_score` (0 to 100) over all annotations of systems other than refA; None
    if no row has one. Rows that give a segment another source, document or domain than its first row are bad rows.
    Segments without a refA row and rows of other pairs than the caller's are counted in the tally.
    """
    pairs: dict[str, dict[int, _Gathered]] = {}
    for row in rows:
        try:
            annotation = _annotation(row, request)
            segments = pairs.setdefault(annotation.langs, {})
            fresh = _Gathered(row.line, annotation.segment)
            _gather(segments.setdefault(annotation.line_id, fresh), annotation)
        except OtherPair as other:
            tally.pass_over(other)
        except RowFault as fault:
            tally.refuse(row.line, fault)
    found: list[Segment] = []
    for langs, segments in pairs.items():
        for line_id, gathered in sorted(segments.items()):
            if gathered.references:
                found.append(_segment(langs, line_id, gathered))
            else:
                tally.leave_out(NO_REFERENCE)
    return found


def mean_score(scores: list[float]) -> float | None:
    """The mean of the scores, the same in any order; None for none."""
    return math.fsum(scores) / len(scores) if scores else None


def _annotation(row: JsonRow, request: ReadRequest) -> _Annotation:
    fields = row.fields
    langs = check.pair(check.required(fields, "langs"), "langs", request.asked)
    line_id = check.whole_number(fields, "line_id")
    segment = (
        check.text(fields, "src", "source"),
        check.label(fields, "doc_id"),
        check.label(fields, "domain"),
    )
    output = check.string(check.required(fields, "tgt"), "tgt")
    is_reference = check.text(fields, "system", "system") == REFERENCE_SYSTEM
    score = check.score(fields.get("esa_score"), "esa_score", LOWEST_SCORE, HIGHEST_SCORE)
    return _Annotation(
        langs,
        line_id,
        segment,
        reference=check.clean_text(output, "tgt", "reference") if is_reference else None,
        score=None if is_reference else score,
    )


def _gather(gathered: _Gathered, annotation: _Annotation) -> None:
    for key, value, first in zip(("src", "doc_id", "domain"), annotation.segment, gathered.segment, strict=True):
        if value != first:
            rule = f"`{key}` is another than in line {gathered.first_line}, of the same langs and line_id"
            raise RowFault(rule, value)
    if annotation.reference is not None:
        gathered.references[annotation.reference] = None
    if annotation.score is not None:
        gathered.scores.append(annotation.score)


def _segment(langs: str, line_id: int, gathered: _Gathered) -> Segment:
    source, doc_id, domain = gathered.segment
    identity = f"{langs}:{line_id}"
    return Segment(
        id=identity,
        langs=langs,
        source=source,
        references=tuple(gathered.references),
        doc_id=doc_id or identity,
        domain=domain,
        human_score=mean_score(gathered.scores),
    )
