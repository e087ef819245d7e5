"""Take the ids of WMT's documents apart, which say pair, domain, document and often a segment's number."""

from __future__ import annotations

from dataclasses import dataclass

from workers.reading.errors import RowFault

_OLDER, _NEWER = "_#_", "_###_"


@dataclass(frozen=True, slots=True)
class Place:
    """langs: the pair as it is written there. number: of the segment. Each is "" where the id does not say it."""

    langs: str
    domain: str
    document: str
    number: str


def place_of(doc_id: str) -> Place:
    """The parts of "en-de_DE_#_news_#_doc" (since 2024, a number may follow) and of
    "WMT26_###_news_###_eng_Latn_###_deu_Latn_###_doc" (2026, the same); another id is that of a document."""
    newer = doc_id.split(_NEWER)
    if len(newer) in (5, 6):
        whole, domain, source, target, document, *numbers = newer
        # Test suites and challenge sets beside WMT's own number their documents anew.
        document = document if whole.startswith("WMT") else f"{whole}_{document}"
        return Place(f"{source}-{target}", domain, document, "".join(numbers))
    langs, _, rest = doc_id.partition(_OLDER)
    domain, _, rest = rest.partition(_OLDER)
    document, _, number = rest.rpartition(_OLDER)
    if domain and rest and langs:
        return Place(langs, domain, document or number, number if document else "")
    return Place("", "", doc_id, "")


def full_place(doc_id: str) -> Place:
    """The same; raises RowFault for an id that does not say the pair."""
    place = place_of(doc_id)
    if not (place.langs and place.document):
        raise RowFault(
            "`doc_id` must be pair, domain and document, and a number where there is one, joined by _#_", doc_id
        )
    return place
