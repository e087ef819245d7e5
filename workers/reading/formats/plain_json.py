"""Read plain JSON rows {src, ref, langs}, with doc_id, domain, id and difficulty or score where known."""

from __future__ import annotations

from collections.abc import Iterable

from workers.reading import fields as check
from workers.reading.errors import OR_SKIP, RowFault
from workers.reading.formats.alma import named_direction
from workers.reading.segments import Segment
from workers.reading.tally import JsonRow, ReadRequest, Tally, one_a_row


def read(rows: Iterable[JsonRow], request: ReadRequest, tally: Tally) -> list[Segment]:
    """The segments in the file's order; those of other pairs than the caller's are counted in the tally.

    The key `ref` holds a text or an array of them. Rows without `langs` take the caller's pair, where that is one. A
    row without `id` gets the pair and its ordinal (1-based). `difficulty` or `score` (a row has at most one) is any
    finite number.
    """
    return one_a_row(rows, tally, lambda row: _segment(row, request))


def _segment(row: JsonRow, request: ReadRequest) -> Segment:
    fields = row.fields
    langs = row_langs(fields, request)
    identity = _identity(fields) or f"{langs}:{row.number}"
    return Segment(
        id=identity,
        langs=langs,
        source=check.text(fields, "src", "source"),
        references=_references(check.required(fields, "ref")),
        doc_id=check.label(fields, "doc_id") or identity,
        domain=check.label(fields, "domain"),
        human_score=_score(fields),
    )


def row_langs(fields: dict[str, object], request: ReadRequest) -> str:
    """A row's pair, or the caller's where the row names none, or that of the file's name (test.en-de.jsonl).

    Raises RowFault when it is a bad one, or there is none; OtherPair when it is none of the caller's.
    """
    if fields.get("langs") is not None:
        return check.pair(fields["langs"], "langs", request.asked)
    if request.langs is not None:
        return request.langs
    named = named_direction(request.path)
    if named is None:
        way_out = f"Pass langs for the whole file, such as en-de. {OR_SKIP}"
        raise RowFault("the field `langs` is missing", "the row has " + ", ".join(fields), way_out)
    return check.pair(named, "langs", request.asked)


def _identity(fields: dict[str, object]) -> str:
    value = fields.get("id")
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return check.clean_text(value, "id", "id")


def _references(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return (check.clean_text(value, "ref", "reference"),)
    if not value:
        raise RowFault("empty reference (`ref`): an array of references must hold at least one", value)
    return tuple(check.clean_text(one, "ref", "reference") for one in value)


def _score(fields: dict[str, object]) -> float | None:
    found = [(key, fields[key]) for key in ("difficulty", "score") if fields.get(key) is not None]
    if len(found) == 2:
        raise RowFault("a row has `difficulty` or `score`, not both", f"{found[0][1]} and {found[1][1]}")
    return check.score(found[0][1], found[0][0]) if found else None
