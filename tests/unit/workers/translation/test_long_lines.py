"""A line that is too long is cut at sentences, then at spaces, then anywhere; nothing but white space is lost."""

from __future__ import annotations

import random

import pytest

from workers.translation.long_lines import joined, pieces_of


def shorter_than(limit: int):  # type: ignore[no-untyped-def]
    return lambda text: len(text) <= limit


def test_each_sentence_is_a_piece() -> None:
    text = "A dog runs away. Two men are running! Does a bird sing? It does so."
    assert pieces_of(text, shorter_than(30)) == [
        "A dog runs away.",
        "Two men are running!",
        "Does a bird sing?",
        "It does so.",
    ]


def test_what_may_be_an_abbreviation_goes_with_the_next() -> None:
    assert pieces_of("Mrs. Smith left early. They did.", shorter_than(40)) == [
        "Mrs. Smith left early.",
        "They did.",
    ]
    # Where both do not fit, it stands alone.
    assert pieces_of("Mrs. Smith left early.", shorter_than(18)) == ["Mrs.", "Smith left early."]


def test_quotes_and_brackets_stay_with_their_sentence() -> None:
    assert pieces_of('He then said "go." She (too) was going.) Then he went.', shorter_than(30)) == [
        'He then said "go."',
        "She (too) was going.)",
        "Then he went.",
    ]


def test_scripts_without_spaces_are_cut_behind_their_stops() -> None:
    text = "今天下雨所以我们都在家里看书。「明天我们一起去公园玩好吗。」他说他不知道明天会不会下雨。"
    assert pieces_of(text, shorter_than(18)) == [
        "今天下雨所以我们都在家里看书。",
        "「明天我们一起去公园玩好吗。」",
        "他说他不知道明天会不会下雨。",
    ]


def test_a_long_sentence_is_cut_at_spaces_and_a_long_word_anywhere() -> None:
    assert pieces_of("aaa bbb ccc ddd", shorter_than(7)) == ["aaa bbb", "ccc ddd"]
    assert pieces_of("abcdefgh", shorter_than(3)) == ["ab", "cd", "ef", "gh"]
    assert pieces_of("ab", shorter_than(0)) == ["a", "b"]


@pytest.mark.parametrize("seed", range(20))
def test_every_piece_fits_and_all_that_is_no_space_is_there(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choices("abc .!?。  \u2028", k=draw.randrange(1, 400)))
    pieces = pieces_of(text, shorter_than(17))
    assert all(0 < len(piece) <= 17 and piece == piece.strip() for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


def test_translations_are_joined_as_their_script_joins_sentences() -> None:
    assert joined(["Eins.", "", "Zwei."], "de") == "Eins. Zwei."
    assert joined(["一。", "二。"], "zh_TW") == "一。二。"
