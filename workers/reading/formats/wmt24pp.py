"""Read WMT24++: a row is one segment of one pair, with its post-edited reference.

Format and the advice on bad sources: https://huggingface.co/datasets/google/wmt24pp
"""

from __future__ import annotations

from collections.abc import Iterable

from workers.reading import fields as check
from workers.reading.segments import Segment
from workers.reading.tally import JsonRow, LeftOut, ReadRequest, Tally, one_a_row

BAD_SOURCE = "bad source"
CANARY = "canary"


def read(rows: Iterable[JsonRow], request: ReadRequest, tally: Tally) -> list[Segment]:
    """The segments in the file's order, with the key `target` as their reference.

    Rows marked `is_bad_source` are left out, as the authors did, and counted in the tally; so is the canary row.
    """
    return one_a_row(rows, tally, lambda row: _segment(row.fields, request))


def _segment(fields: dict[str, object], request: ReadRequest) -> Segment | LeftOut:
    langs = check.pair(check.required(fields, "lp"), "lp", request.asked)
    document, domain = check.label(fields, "document_id"), check.label(fields, "domain")
    number = check.whole_number(fields, "segment_id")
    is_bad = check.required(fields, "is_bad_source")
    if not isinstance(is_bad, bool):
        raise check.wrong_type("is_bad_source", "true or false", is_bad)
    if domain == CANARY:
        return LeftOut(CANARY)
    if is_bad:
        return LeftOut(BAD_SOURCE)
    source = check.text(fields, "source", "source")
    reference = check.text(fields, "target", "reference")
    identity = f"{langs}:{document}:{number}" if document else f"{langs}:{number}"
    return Segment(
        id=identity, langs=langs, source=source, references=(reference,), doc_id=document or identity, domain=domain
    )
