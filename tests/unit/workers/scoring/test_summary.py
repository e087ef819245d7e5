"""A candidate's numbers by pair, bin, domain, document and length, against sacreBLEU over the same segments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sacrebleu

from search_spaces.outcome import Score
from tests.support.examples import segment
from workers.reading.segments import Segment
from workers.scoring.bins import parse_bins
from workers.scoring.breakdown import breakdown
from workers.scoring.metrics import scores_by_pair, segment_scores
from workers.scoring.summary import summarize

BINS = parse_bins("0-30,30-60,60-100")

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


def summarized(metrics: tuple[str, ...]) -> dict[str, Any]:
    scores = scores_by_pair(metrics, SEGMENTS, HYPOTHESES)
    return summarize(scores, SEGMENTS, HYPOTHESES, segment_scores(metrics, SEGMENTS, HYPOTHESES), BINS)


def test_every_number_of_a_summary_is_sacrebleus_over_its_own_segments() -> None:
    german = chrf(OUT, GERMAN)
    chinese = chrf(HYPOTHESES[2:], ["一只狗在跑。", "老人在看书。", "孩子们在玩。"])
    low, high_german = chrf(OUT[:1], GERMAN[:1]), chrf(OUT[1:], GERMAN[1:])
    high_chinese = chrf(["狗在跑。"], ["一只狗在跑。"])
    unscored, outside = chrf(["老人看书。"], ["老人在看书。"]), chrf(["孩子在玩。"], ["孩子们在玩。"])

    summary = summarized(("chrf",))["chrf"]

    assert summary["by_langpair"] == {"en-de": german, "en-zh": chinese}
    assert summary["overall"] == (german + chinese) / 2
    assert summary["worst_pair"] == ("en-de" if german < chinese else "en-zh")
    assert summary["worst_pair_score"] == min(german, chinese)
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
    assert list(summarized(("bleu", "chrf++", "ter"))) == ["bleu", "chrf++", "ter"]


def placed(domains: str, documents: str) -> list[Segment]:
    return [
        replace(one, domain={"n": "news", "s": "speech", "-": ""}[domain], doc_id=document)
        for one, domain, document in zip(SEGMENTS, domains, documents, strict=True)
    ]


def test_domains_and_documents_are_scored_by_their_own_segments() -> None:
    found = breakdown("chrf", placed("nnns-", "aabba"), HYPOTHESES, BINS)
    news = (chrf(OUT, GERMAN) + chrf(["狗在跑。"], ["一只狗在跑。"])) / 2
    assert found["by_domain"] == {
        "news": news,
        "none named": chrf(["孩子在玩。"], ["孩子们在玩。"]),
        "speech": chrf(["老人看书。"], ["老人在看书。"]),
    }
    # A document of one name in two pairs is two documents.
    documents = {("en-de", "a"): 2, ("en-zh", "a"): 1, ("en-zh", "b"): 2}
    assert found["documents"] == 3
    assert {(row["langs"], row["doc_id"]): row["segments"] for row in found["worst_documents"]} == documents
    scores = [row["score"] for row in found["worst_documents"]]
    assert scores == sorted(scores)
    assert chrf(OUT, GERMAN) in scores


def test_only_the_ten_worst_documents_are_listed_and_for_ter_they_are_the_highest() -> None:
    segments = [segment("x", "Ein Hund rennt schnell.", id=str(line)) for line in range(12)]
    texts = ["Ein Hund rennt schnell."] * 11 + ["Katze"]
    for metric in ("chrf", "ter"):
        found = breakdown(metric, segments, texts, BINS)
        assert found["documents"] == 12 and len(found["worst_documents"]) == 10
        assert found["worst_documents"][0]["doc_id"] == "11"
    pairs = [segment("x", "Ein Hund."), segment("x", "Un chien.", langs="en-fr", id="2")]
    assert breakdown("ter", pairs, ["Ein Hund.", "rien du tout, rien"], BINS)["worst_pair"] == "en-fr"


def test_lengths_are_of_the_source_and_in_order() -> None:
    segments = [segment("word " * count, GERMAN[0], id=str(count)) for count in (70, 3, 20)]
    found = breakdown("chrf", segments, [GERMAN[0], OUT[0], GERMAN[0]], BINS)["by_source_length"]
    assert list(found) == ["1-8 words", "17-32 words", "65+ words"]
    assert found["65+ words"] == pytest.approx(100.0) and found["1-8 words"] == chrf(OUT[:1], GERMAN[:1])


def test_a_metric_known_by_its_segments_is_the_mean_over_pairs_of_their_means() -> None:
    values = [90.0, 70.0, 50.0, 60.0, 40.0]
    found = breakdown("comet", SEGMENTS, HYPOTHESES, BINS, values)
    assert found["by_langpair"] == {"en-de": 80.0, "en-zh": 50.0}
    assert (found["overall"], found["worst_pair"], found["worst_pair_score"]) == (65.0, "en-zh", 50.0)
    assert found["by_bin"] == {"0-30": 90.0, "60-100": 60.0, "outside": 40.0, "unscored": 60.0}
    with pytest.raises(ValueError, match="comet is not one of sacreBLEU's metrics"):
        breakdown("comet", SEGMENTS, HYPOTHESES, BINS)


def test_a_summary_takes_neural_scores_from_the_rows() -> None:
    rows = [{"comet": value} for value in (90.0, 70.0, 50.0, 60.0, 40.0)]
    scores = {"comet": {"en-de": Score(80.0, "signature"), "en-zh": Score(50.0, "signature")}}
    found = summarize(scores, SEGMENTS, HYPOTHESES, rows, BINS)["comet"]
    assert found["by_langpair"] == {"en-de": 80.0, "en-zh": 50.0}
    assert found["signatures"] == {"en-de": "signature", "en-zh": "signature"}
