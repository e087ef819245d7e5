"""Bins of scores and of source lengths."""

from __future__ import annotations

import pytest

from search_spaces.errors import StudyError
from workers.scoring.bins import bin_of, length_bin, length_bins, parse_bins

BINS = parse_bins("0-30,30-60,60-100")


@pytest.mark.parametrize(
    ("score", "name"),
    [
        (0.0, "0-30"),
        (0.001, "0-30"),
        (30.0, "0-30"),
        (30.001, "30-60"),
        (60.0, "30-60"),
        (100.0, "60-100"),
        (100.5, "outside"),
        (-1.0, "outside"),
        (None, "unscored"),
    ],
)
def test_a_score_falls_in_the_bin_whose_high_end_it_reaches_and_zero_in_the_first(
    score: float | None, name: str
) -> None:
    assert bin_of(score, BINS) == name


def test_only_the_first_bin_takes_in_its_low_end() -> None:
    apart = parse_bins("10-20, 30-40")
    assert [bin_of(score, apart) for score in (10.0, 20.0, 25.0, 30.0, 40.0)] == [
        "10-20",
        "10-20",
        "outside",
        "outside",
        "30-40",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "write ranges such as"),
        (" , ", "write ranges such as"),
        ("30", "'30' is not a range"),
        ("a-b", "'a-b' is not a range"),
        ("0-30-60", "'0-30-60' is not a range"),
        ("30-30", "'30-30' is empty"),
        ("60-30", "'60-30' is empty"),
        ("0-30,20-60", "'20-60' is empty, or overlaps"),
        ("30-60,0-30", "'0-30' is empty, or overlaps"),
        ("nan-30", "'nan-30' is empty"),
        ("0-nan", "'0-nan' is empty"),
    ],
)
def test_bins_that_cannot_be_meant_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(StudyError, match=reason):
        parse_bins(text)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("Two dogs.", "1-8 words"),
        ("one two three four five six seven eight", "1-8 words"),
        ("one two three four five six seven eight nine", "9-16 words"),
        ("一只狗在草地上奔跑", "9-16 words"),
        ("word " * 64, "33-64 words"),
        ("word " * 65, "65+ words"),
        ("…", "1-8 words"),
    ],
)
def test_a_source_falls_in_a_bin_by_its_words(source: str, name: str) -> None:
    assert length_bin(source) == name
    assert name in length_bins()


def test_length_bins_are_in_order() -> None:
    assert length_bins() == ("1-8 words", "9-16 words", "17-32 words", "33-64 words", "65+ words")
