"""Read WMT's unified human evaluations (`*-genmt-humeval.jsonl`): a row is a segment with every output.

Pair, domain, document and often a number stand in `doc_id` (`wmt_ids`). The reference is `tgt_text["refA"]`.
"""

from __future__ import annotations

from collections.abc import Iterable

from workers.reading import fields as check
from workers.reading.formats.wmt24_esa import HIGHEST_SCORE, LOWEST_SCORE, REFERENCE_SYSTEM, mean_score
from workers.reading.formats.wmt_ids import full_place
from workers.reading.segments import NO_REFERENCE, Segment
from workers.reading.tally import JsonRow, LeftOut, ReadRequest, Tally, one_a_row

_PROTOCOL = "ESA"


def read(rows: Iterable[JsonRow], request: ReadRequest, tally: Tally) -> list[Segment]:
    """The segments in the file's order; those without a refA text are counted in the tally.

    The id is pair, document and number, since later files number the segments within a document. The human score is the
    mean over all ESA scores (0 to 100) of systems other than refA; scores of another protocol are on another scale and
    do not enter it.
    """
    return one_a_row(rows, tally, lambda row: _segment(row.fields, request))


def _segment(fields: dict[str, object], request: ReadRequest) -> Segment | LeftOut:
    place = full_place(check.text(fields, "doc_id", "document id"))
    langs = check.pair(place.langs, "doc_id", request.asked)
    outputs = check.mapping(fields, "tgt_text")
    source = check.text(fields, "src_text", "source")
    human_score = mean_score(_scores(fields.get("scores")))
    if outputs.get(REFERENCE_SYSTEM) is None:
        return LeftOut(NO_REFERENCE)
    reference = check.clean_text(outputs[REFERENCE_SYSTEM], f"tgt_text.{REFERENCE_SYSTEM}", "reference")
    identity = ":".join(part for part in (langs, place.document, place.number) if part)
    return Segment(
        id=identity,
        langs=langs,
        source=source,
        references=(reference,),
        doc_id=place.document,
        domain=place.domain,
        human_score=human_score,
    )


def _scores(by_system: object) -> list[float]:
    """The ESA scores of all systems but the reference; absent or null: none."""
    if by_system is None:
        return []
    found: list[float] = []
    for system, entries in check.mapping({"scores": by_system}, "scores").items():
        key = f"scores.{system}"
        if not isinstance(entries, list):
            raise check.wrong_type(key, "an array", entries)
        if system != REFERENCE_SYSTEM:
            found.extend(value for entry in entries if (value := _esa_score(entry, key)) is not None)
    return found


def _esa_score(entry: object, key: str) -> float | None:
    fields = check.mapping({key: entry}, key)
    if fields.get("protocol", _PROTOCOL) != _PROTOCOL:
        return None
    return check.score(fields.get("score"), f"{key}.score", LOWEST_SCORE, HIGHEST_SCORE)
