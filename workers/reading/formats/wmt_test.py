"""Read WMT's general test sets since 2025 (`wmt25-genmt.jsonl`, `wmt26-genmt.jsonl`): a row is a document.

https://github.com/wmt-conference/wmt25-general-mt, https://github.com/wmt-conference/wmt26-general-mt. References stand
in `refs` by their names: {"refA": {"ref": text}} in 2025, {"refA": text, "refPE": text} in 2026, {} where none is.
"""

from __future__ import annotations

from collections.abc import Iterable

from workers.reading import fields as check
from workers.reading.formats.alma import named_direction
from workers.reading.formats.wmt_ids import Place, place_of
from workers.reading.segments import NO_REFERENCE, Segment
from workers.reading.tally import JsonRow, LeftOut, ReadRequest, Tally, one_a_row


def read(rows: Iterable[JsonRow], request: ReadRequest, tally: Tally) -> list[Segment]:
    """The segments in the file's order, a row each, with all of its references; rows without one are counted in the
    tally.

    The pair is that of `src_lang` and `tgt_lang`, else that of `doc_id`, else the caller's or the file's name's. The id
    is pair, document and number.
    """
    return one_a_row(rows, tally, lambda row: _segment(row, request))


def _segment(row: JsonRow, request: ReadRequest) -> Segment | LeftOut:
    fields = row.fields
    place = place_of(check.label(fields, "doc_id"))
    langs = check.pair(_langs(fields, place, request), "src_lang-tgt_lang", request.asked)
    source = check.text(fields, "src_text", "source")
    references = _references(fields.get("refs"))
    if not references:
        return LeftOut(NO_REFERENCE)
    number = place.number or str(fields.get("paragraph_id") or "")
    document = place.document or str(row.number)
    identity = ":".join(part for part in (langs, document, number) if part)
    domain = check.label(fields, "domain") or place.domain
    return Segment(
        id=identity, langs=langs, source=source, references=references, doc_id=place.document or identity, domain=domain
    )


def _langs(fields: dict[str, object], place: Place, request: ReadRequest) -> object:
    sides = [check.label(fields, key).replace("-", "_") for key in ("src_lang", "tgt_lang")]
    if all(sides):
        return "-".join(sides)
    return place.langs or request.langs or named_direction(request.path) or check.required(fields, "src_lang")


def _references(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    found: dict[str, None] = {}
    for name, given in check.mapping({"refs": value}, "refs").items():
        text = given.get("ref") if isinstance(given, dict) else given
        if text is not None:
            found[check.clean_text(text, f"refs.{name}", "reference")] = None
    return tuple(found)
