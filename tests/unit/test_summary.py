"""The one-candidate command's numbers, by pair and by bins of human score."""

from __future__ import annotations

import pytest
import sacrebleu

from search_spaces.errors import StudyError
from tests.examples import segment
from workers.summary import bin_of, parse_bins, summarize

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
        ("30", "'30' is no range"),
        ("a-b", "'a-b' is no range"),
        ("0-30-60", "'0-30-60' is no range"),
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


GERMAN = ["Ein Hund rennt über die Wiese.", "Der alte Mann liest ein Buch."]
OUT = ["Ein Hund läuft auf der Wiese.", "Ein Mann liest das Buch."]
SEGMENTS = [
    segment("a", GERMAN[0], id="1", human_score=0.0),
    segment("b", GERMAN[1], id="2", human_score=95.0),
    segment("c", "一只狗在跑。", langs="en-zh", id="3", human_score=95.0),
    segment("d", "老人在看书。", langs="en-zh", id="4"),
    segment("e", "孩子们在玩。", langs="en-zh", id="5", human_score=200.0),
]
HYPOTHESES = [*OUT, "狗在跑。", "老人看书。", "孩子在玩。"]


def chrf(hypotheses: list[str], references: list[str]) -> float:
    return float(sacrebleu.corpus_chrf(hypotheses, [references]).score)


def test_every_number_of_a_summary_is_sacrebleus_over_its_own_segments() -> None:
    german = chrf(OUT, GERMAN)
    chinese = chrf(HYPOTHESES[2:], ["一只狗在跑。", "老人在看书。", "孩子们在玩。"])
    low, high_german = chrf(OUT[:1], GERMAN[:1]), chrf(OUT[1:], GERMAN[1:])
    high_chinese = chrf(["狗在跑。"], ["一只狗在跑。"])
    unscored, outside = chrf(["老人看书。"], ["老人在看书。"]), chrf(["孩子在玩。"], ["孩子们在玩。"])

    summary = summarize(("chrf",), SEGMENTS, HYPOTHESES, BINS)["chrf"]

    assert summary["by_langpair"] == {"en-de": german, "en-zh": chinese}
    assert summary["overall"] == (german + chinese) / 2
    assert summary["worst_pair"] == ("en-de" if german < chinese else "en-zh")
    assert summary["by_bin"] == {
        "0-30": low,
        "60-100": (high_german + high_chinese) / 2,
        "outside": outside,
        "unscored": unscored,
    }
    assert summary["by_langpair_bin"] == {
        "en-de": {"0-30": low, "60-100": high_german},
        "en-zh": {"60-100": high_chinese, "outside": outside, "unscored": unscored},
    }
    assert set(summary["signatures"]) == {"en-de", "en-zh"}
    assert all(f"version:{sacrebleu.__version__}" in text for text in summary["signatures"].values())


def test_a_summary_has_every_metric_asked_for_and_no_other() -> None:
    assert list(summarize(("bleu", "chrf++"), SEGMENTS, HYPOTHESES, BINS)) == ["bleu", "chrf++"]
