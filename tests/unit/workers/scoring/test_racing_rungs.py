"""The order of a race and its rungs: whole documents, pairs in proportion, the same for every candidate."""

from collections import Counter

import pytest

from workers.reading.segments import Segment
from workers.scoring.rungs import documents_by_pair, imbalance, race_order, rung_ends


def segments_of(**documents: list[int]) -> list[Segment]:
    """Segments of pairs named in, say, en_de; documents by their numbers of segments."""
    found = []
    for pair, sizes in documents.items():
        langs = pair.replace("_", "-")
        for number, size in enumerate(sizes):
            for line in range(size):
                found.append(Segment(f"{langs}:{number}:{line}", langs, "s", ("r",), f"doc{number}", ""))
    return found


def test_every_position_comes_once_and_the_seed_decides_the_order() -> None:
    segments = segments_of(en_de=[3, 1, 4, 1, 5] * 8, en_cs=[2] * 50)
    order = race_order(segments, seed=1)
    assert sorted(order) == list(range(len(segments)))
    assert order == race_order(segments, seed=1)
    assert order != race_order(segments, seed=2)


def test_documents_stay_whole_and_in_their_own_order() -> None:
    segments = segments_of(en_de=[3, 1, 4, 1, 5] * 8, en_cs=[2] * 50)
    order = race_order(segments, seed=0)
    place = {position: at for at, position in enumerate(order)}
    for documents in documents_by_pair(segments).values():
        for document in documents.values():
            assert [place[position] - place[document[0]] for position in document] == list(range(len(document)))


def test_every_prefix_holds_the_pairs_in_proportion() -> None:
    segments = segments_of(en_de=[1] * 300, en_cs=[1] * 100, en_fr=[1] * 200)
    order = race_order(segments, seed=0)
    assert max(imbalance(segments, order[:end]) for end in range(1, len(order) + 1)) < 1.001


def test_a_text_that_pairs_share_comes_once_before_any_comes_again() -> None:
    segments = segments_of(en_de=[1] * 99, en_cs=[1] * 99, en_fr=[1] * 99)
    order = race_order(segments, seed=0)
    again = [segments[position].doc_id for position in order[99:]]
    assert again[::2] == again[1::2] == [segments[position].doc_id for position in order[:99]]
    assert max(Counter(segments[position].doc_id for position in order[:99]).values()) == 1
    assert Counter(segments[position].langs for position in order[:99]) == {"en-de": 33, "en-cs": 33, "en-fr": 33}


def test_a_pair_of_one_document_is_raced_by_segments() -> None:
    segments = segments_of(en_de=[50], en_cs=[5] * 10)
    by_pair = documents_by_pair(segments)
    assert [len(by_pair[pair]) for pair in ("en-cs", "en-de")] == [10, 50]
    order = race_order(segments, seed=0)
    assert [position for position in order if position < 50] != list(range(50))


def test_rungs_end_with_documents_where_pairs_are_even() -> None:
    segments = segments_of(en_de=[1] * 400, en_cs=[1] * 400, en_fr=[1] * 400)
    order = race_order(segments, seed=0)
    assert rung_ends(segments, order, (64, 256)) == [66, 258, 1200]
    documents = segments_of(en_de=[7] * 100)
    assert rung_ends(documents, race_order(documents, seed=0), (64, 256)) == [70, 259, 700]


@pytest.mark.parametrize(("rungs", "ends"), [((), [100]), ((64, 80, 256), [64, 100]), ((1, 2, 2), [1, 2, 100])])
def test_rungs_that_save_next_to_nothing_are_dropped(rungs: tuple[int, ...], ends: list[int]) -> None:
    segments = segments_of(en_de=[1] * 100)
    assert rung_ends(segments, race_order(segments, seed=0), rungs) == ends


def test_a_single_segment_is_its_own_last_rung() -> None:
    segments = segments_of(en_de=[1])
    assert race_order(segments, seed=0) == [0]
    assert rung_ends(segments, [0], (64, 256)) == [1]
