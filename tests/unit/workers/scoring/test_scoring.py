"""Scores against sacreBLEU's own functions, and intervals whose bounds can be worked out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sacrebleu

from search_spaces.errors import StudyError
from search_spaces.outcome import Score
from tests.support.examples import segment
from workers.reading.segments import Segment
from workers.scoring.metrics import (
    bleu_tokenizer,
    corpus_score,
    corpus_statistics,
    document_counts,
    document_groups,
    group_scorer,
    known_metrics,
    overall,
    paired_interval,
    scores_by_pair,
    segment_scores,
    worst,
)

GERMAN = ["Ein Hund rennt über die Wiese.", "Der alte Mann liest ein Buch.", "Zwei Kinder spielen im Garten."]
GERMAN_OUT = ["Ein Hund läuft über die Wiese.", "Ein alter Mann liest das Buch.", "Kinder spielen in dem Garten."]
FAR_EAST = {
    "en-zh": ("zh", ["一只棕色的狗在草地上奔跑。", "老人坐在长凳上看书。"], ["一只狗在草地上跑。", "老人看书。"]),
    "en-zh_TW": ("zh", ["一隻棕色的狗在草地上跑。", "老人坐在長凳上看書。"], ["一隻狗在草地上跑。", "老人看書。"]),
    "en-ja": ("ja-mecab", ["茶色の犬が草原を走っている。", "老人が本を読む。"], ["犬が草原を走る。", "老人が読む。"]),
    "en-ko": (
        "ko-mecab",
        ["갈색 개가 풀밭을 달리고 있다.", "노인이 벤치에서 책을 읽는다."],
        ["개가 풀밭을 달린다.", "노인이 책을 읽는다."],
    ),
}


def german() -> list[Segment]:
    return [segment("x", text, id=str(line)) for line, text in enumerate(GERMAN)]


def chrf(hypotheses: list[str], references: list[str]) -> float:
    return float(sacrebleu.corpus_chrf(hypotheses, [references]).score)


def test_corpus_scores_are_sacrebleus() -> None:
    segments = german()
    assert corpus_score("bleu", segments, GERMAN_OUT).value == sacrebleu.corpus_bleu(GERMAN_OUT, [GERMAN]).score
    assert corpus_score("chrf", segments, GERMAN_OUT).value == sacrebleu.corpus_chrf(GERMAN_OUT, [GERMAN]).score
    expected = sacrebleu.corpus_chrf(GERMAN_OUT, [GERMAN], word_order=2).score
    assert corpus_score("chrf++", segments, GERMAN_OUT).value == expected
    assert 10 < corpus_score("bleu", segments, GERMAN_OUT).value < 90


def test_signatures_say_what_the_score_was_taken_under() -> None:
    version = sacrebleu.__version__
    signatures = {name: corpus_score(name, german(), GERMAN_OUT).signature for name in ("bleu", "chrf", "chrf++")}
    assert signatures == {
        "bleu": f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}",
        "chrf": f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version}",
        "chrf++": f"nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|version:{version}",
    }


@pytest.mark.parametrize("name", ["bleu", "chrf", "chrf++"])
def test_segments_may_have_unequal_numbers_of_references(name: str) -> None:
    # A reference given twice adds no n-gram, so the padded streams must score as the uneven references do.
    uneven = [(GERMAN[0], "Ein Hund läuft über die grüne Wiese."), (GERMAN[1],), (GERMAN[2],)]
    segments = [segment("x", *texts, id=str(line)) for line, texts in enumerate(uneven)]
    even = [[texts[0] for texts in uneven], [texts[-1] for texts in uneven]]
    expected = {
        "bleu": sacrebleu.corpus_bleu(GERMAN_OUT, even).score,
        "chrf": sacrebleu.corpus_chrf(GERMAN_OUT, even).score,
        "chrf++": sacrebleu.corpus_chrf(GERMAN_OUT, even, word_order=2).score,
    }
    score = corpus_score(name, segments, GERMAN_OUT)
    assert score.value == expected[name]
    assert score.value > corpus_score(name, german(), GERMAN_OUT).value
    assert score.signature.startswith("nrefs:var|")


@pytest.mark.parametrize("pair", sorted(FAR_EAST))
def test_bleu_is_taken_with_the_target_languages_tokenizer(pair: str) -> None:
    tokenizer, references, hypotheses = FAR_EAST[pair]
    segments = [segment("x", text, langs=pair, id=str(line)) for line, text in enumerate(references)]
    score = corpus_score("bleu", segments, hypotheses)
    assert score.value == sacrebleu.corpus_bleu(hypotheses, [references], tokenize=tokenizer).score
    assert f"|tok:{tokenizer}" in score.signature
    assert score.value != sacrebleu.corpus_bleu(hypotheses, [references]).score


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [
        ("de", "13a"), ("pt_BR", "13a"), ("zh_TW", "zh"), ("zh_HK", "zh"), ("yue", "zh"), ("lzh", "zh"),
        ("ja", "ja-mecab"), ("ja_Latn", "13a"), ("ko", "ko-mecab"), ("th", "char"), ("lo", "char"), ("my", "char"),
        ("shn", "char"), ("km", "char"), ("bo", "char"), ("dz", "char"), ("jv_Java", "char"), ("jv", "13a"),
        ("vi", "13a"), ("hi", "13a"), ("am", "13a"),
    ],
)  # fmt: skip
def test_a_tokenizer_goes_by_what_the_language_is_written_in(language: str, tokenizer: str) -> None:
    assert bleu_tokenizer(language) == tokenizer


def test_segment_scores_are_sacrebleus_sentence_scores() -> None:
    _, references, hypotheses = FAR_EAST["en-zh"]
    segments = [segment("x", GERMAN[0]), segment("x", references[0], langs="en-zh")]
    rows = segment_scores(("bleu", "chrf"), segments, [GERMAN_OUT[0], hypotheses[0]])
    assert rows == [
        {
            "bleu": sacrebleu.sentence_bleu(GERMAN_OUT[0], [GERMAN[0]]).score,
            "chrf": sacrebleu.sentence_chrf(GERMAN_OUT[0], [GERMAN[0]]).score,
        },
        {
            "bleu": sacrebleu.sentence_bleu(hypotheses[0], [references[0]], tokenize="zh").score,
            "chrf": sacrebleu.sentence_chrf(hypotheses[0], [references[0]]).score,
        },
    ]


def test_each_pair_is_scored_by_itself_wherever_its_lines_are() -> None:
    _, references, hypotheses = FAR_EAST["en-zh"]
    mixed = [german()[0], segment("x", references[0], langs="en-zh"), german()[1]]
    scores = scores_by_pair(("bleu",), mixed, [GERMAN_OUT[0], hypotheses[0], GERMAN_OUT[1]])["bleu"]
    assert list(scores) == ["en-de", "en-zh"]
    assert scores["en-de"].value == sacrebleu.corpus_bleu(GERMAN_OUT[:2], [GERMAN[:2]]).score
    assert scores["en-zh"].value == sacrebleu.corpus_bleu(hypotheses[:1], [references[:1]], tokenize="zh").score


def test_overall_is_the_mean_over_pairs_not_pooled() -> None:
    # Three perfect German lines and one Chinese line with nothing right: 50, where pooling would give more than 70.
    segments = [*german(), segment("x", "一只狗。", langs="en-zh", id="9")]
    scores = scores_by_pair(("chrf",), segments, [*GERMAN, "xyz"])["chrf"]
    assert overall(scores) == pytest.approx(50.0)
    assert overall({"a": Score(10.0, "s"), "b": Score(20.0, "s"), "c": Score(60.0, "s")}) == 30.0


def ter(hypotheses: list[str], references: list[str], characters: bool = False) -> float:
    options = {"normalized": characters, "asian_support": characters}
    return float(sacrebleu.corpus_ter(hypotheses, [references], **options).score)


def test_ter_is_sacrebleus_and_cuts_chinese_and_japanese_into_characters() -> None:
    score = corpus_score("ter", german(), GERMAN_OUT)
    assert score.value == ter(GERMAN_OUT, GERMAN)
    assert score.signature == f"nrefs:1|case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:{sacrebleu.__version__}"
    for pair in ("en-zh", "en-ja", "en-zh_TW"):
        _, references, hypotheses = FAR_EAST[pair]
        segments = [segment("x", text, langs=pair, id=str(line)) for line, text in enumerate(references)]
        score = corpus_score("ter", segments, hypotheses)
        assert score.value == ter(hypotheses, references, characters=True) < ter(hypotheses, references)
        assert "norm:yes|punct:yes|asian:yes" in score.signature
    _, references, hypotheses = FAR_EAST["en-ko"]
    korean = [segment("x", text, langs="en-ko", id=str(line)) for line, text in enumerate(references)]
    assert corpus_score("ter", korean, hypotheses).value == ter(hypotheses, references)
    rows = segment_scores(("ter",), [segment("x", GERMAN[0])], GERMAN_OUT[:1])
    assert rows == [{"ter": sacrebleu.sentence_ter(GERMAN_OUT[0], [GERMAN[0]]).score}]


def test_thai_without_spaces_is_scored_by_its_characters() -> None:
    references = ["สุนัขวิ่งข้ามสนามหญ้า", "ชายชราอ่านหนังสือ"]
    hypotheses = ["สุนัขวิ่งข้ามทุ่งหญ้า", "ชายชราอ่านหนังสือพิมพ์"]
    segments = [segment("x", text, langs="en-th", id=str(line)) for line, text in enumerate(references)]
    scores = {name: corpus_score(name, segments, hypotheses) for name in ("bleu", "ter")}
    assert scores["bleu"].value == sacrebleu.corpus_bleu(hypotheses, [references], tokenize="char").score > 50
    spaced = [[" ".join(text) for text in texts] for texts in (hypotheses, references)]
    assert scores["ter"].value == ter(spaced[0], spaced[1]) < 40
    assert ter(hypotheses, references) == 100.0
    assert "|tok:char|" in scores["bleu"].signature and "|tok:char|" in scores["ter"].signature
    rows = segment_scores(("ter",), segments, hypotheses)
    assert rows[0] == {"ter": sacrebleu.sentence_ter(spaced[0][0], [spaced[1][0]]).score}


@pytest.mark.parametrize("name", ["bleu", "chrf", "chrf++", "ter"])
@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Ein Hund rennt weg.\n\n- Der alte Mann, 80, liest."), ("zh", "一只狗跑开了。\n\n- 老人在看书。"),
        ("ja", "犬が走っている。\n\n- 老人が本を読んでいる。"), ("ko", "개가 달린다.\n\n- 노인이 책을 읽는다."),
        ("th", "สุนัขวิ่ง\n\n- ชายชราอ่าน"),
    ],
)  # fmt: skip
def test_a_line_break_counts_as_a_space_in_every_metric(name: str, language: str, text: str) -> None:
    flat, hypothesis = " ".join(text.split()), text[:-2] + "x"
    references = [segment("x", one, langs=f"en-{language}") for one in (text, flat)]
    hypotheses = [hypothesis, " ".join(hypothesis.split())]
    scores = {corpus_score(name, [one], [said]).value for one in references for said in hypotheses}
    assert len(scores) == 1 and 0 < min(scores) < 100


def test_the_worst_is_the_lowest_and_for_ter_the_highest() -> None:
    scores = {"en-fr": 20.0, "en-de": 20.0, "en-cs": 60.0}
    assert worst("chrf", scores) == "en-de"
    assert worst("ter", scores) == "en-cs"


@pytest.mark.parametrize("name", ["chrf", "chrf++", "bleu", "ter"])
def test_a_group_of_lines_is_scored_as_if_it_were_alone(name: str) -> None:
    _, references, hypotheses = FAR_EAST["en-zh"]
    segments = [*german(), segment("x", references[0], langs="en-zh", id="9")]
    score = group_scorer(name, segments, corpus_statistics(name, segments, [*GERMAN_OUT, hypotheses[0]]))
    for lines in ([0, 2], [1], [0, 1, 2]):
        alone = corpus_score(name, [segments[line] for line in lines], [GERMAN_OUT[line] for line in lines])
        assert score(lines) == alone.value
    assert score([3]) == corpus_score(name, segments[3:], hypotheses[:1]).value


def test_an_unknown_metric_is_refused_and_a_repeated_one_is_taken_once() -> None:
    assert known_metrics(["chrf", "bleu", "chrf"]) == ("chrf", "bleu")
    with pytest.raises(StudyError, match=r"no metric 'comet'; there are chrf, chrf\+\+, bleu, ter$"):
        known_metrics(["chrf", "comet"])
    assert known_metrics(["chrf", "comet"], neural=True) == ("chrf", "comet")
    with pytest.raises(StudyError, match=r"no metric 'meteor'; there are chrf, .*, ter, comet, cometkiwi$"):
        known_metrics(["meteor"], neural=True)
    with pytest.raises(StudyError, match="no metric was named"):
        known_metrics([])


def interval(
    name: str, segments: list[Segment], candidate: list[str], baseline: list[str], seed: int = 0
) -> tuple[float, float]:
    found = paired_interval(
        name, segments, corpus_statistics(name, segments, candidate), corpus_statistics(name, segments, baseline), seed
    )
    return found.low, found.high


def twice(segments: list[Segment]) -> list[Segment]:
    """The segments as one document, and all of them again as another."""
    return [replace(segment, id=f"{doc}{segment.id}", doc_id=doc) for doc in "ab" for segment in segments]


def long_text(documents: int, each: int) -> tuple[list[Segment], list[str]]:
    """Segments in documents of equal length, no two alike, and their references as hypotheses."""
    references = [f"{GERMAN[line % 3]} Nummer {line}." for line in range(documents * each)]
    segments = [segment("x", text, id=str(line), doc=f"doc {line // each}") for line, text in enumerate(references)]
    return segments, references


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_identical_systems_differ_by_nothing(name: str) -> None:
    segments, perfect = long_text(documents=6, each=3)
    worse = [text.replace("Hund", "Katze") for text in perfect]
    assert interval(name, segments, worse, list(worse)) == (0.0, 0.0)


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_a_clearly_worse_system_is_told_from_chance_and_a_better_one_mirrors_it(name: str) -> None:
    segments, perfect = long_text(documents=6, each=3)
    worse = [text.replace("ein", "xyz").replace("Ein", "Xyz")[:-12] for text in perfect]
    low, high = interval(name, segments, worse, perfect)
    assert low < high < 0.0
    assert interval(name, segments, perfect, worse) == pytest.approx((-high, -low))


@pytest.mark.parametrize("name", ["bleu", "chrf", "chrf++"])
def test_the_full_samples_statistics_give_the_corpus_score(name: str) -> None:
    # Of two documents of the same content any draw is the full sample, so both bounds are one difference.
    segments = twice(german())
    out, other = GERMAN_OUT * 2, ["Ein Hund rennt.", "Der alte Mann liest ein Buch.", "Kinder spielen."] * 2
    difference = corpus_score(name, segments, out).value - corpus_score(name, segments, other).value
    assert abs(difference) > 1.0
    assert interval(name, segments, out, other) == pytest.approx((difference, difference), abs=1e-9)


def test_the_interval_is_of_the_mean_over_pairs() -> None:
    _, references, hypotheses = FAR_EAST["en-zh"]
    chinese = [segment("x", text, langs="en-zh", id=f"z{line}") for line, text in enumerate(references)]
    segments = [*twice(german()), *twice(chinese)]
    low, high = interval("chrf", segments, [*GERMAN_OUT * 2, *hypotheses * 2], [*GERMAN * 2, *references * 2])
    expected = (chrf(GERMAN_OUT, GERMAN) - 100 + chrf(hypotheses, references) - 100) / 2
    assert (low, high) == pytest.approx((expected, expected))


def test_the_segments_of_a_document_are_drawn_together() -> None:
    # The candidate is ruined in the second of two documents. A quarter of the samples draw the first document twice
    # (difference 0), a quarter the second twice: both bounds are those extremes. Drawn segment by segment, the same
    # hypotheses give samples that are never far from half and half.
    segments, perfect = long_text(documents=2, each=30)
    ruined = [*perfect[:30], *("Katze" for _ in perfect[30:])]
    only_second = chrf(ruined[30:], perfect[30:]) - 100
    low, high = interval("chrf", segments, ruined, perfect)
    assert (low, high) == pytest.approx((only_second, 0.0), abs=1e-9)

    apart = [segment("x", text, id=str(line)) for line, text in enumerate(perfect)]
    narrow_low, narrow_high = interval("chrf", apart, ruined, perfect)
    assert only_second < narrow_low < narrow_high < 0.0
    assert narrow_high - narrow_low < 0.5 * (high - low)


def test_a_pair_that_is_one_document_is_drawn_by_segment() -> None:
    segments, perfect = long_text(documents=1, each=30)
    apart = [replace(segment, doc_id=segment.id) for segment in segments]
    ruined = [*perfect[:15], *("Katze" for _ in perfect[15:])]
    low, high = interval("chrf", segments, ruined, perfect)
    assert low < high < 0.0
    assert (low, high) == interval("chrf", apart, ruined, perfect)


def test_the_interval_depends_on_the_seed_alone() -> None:
    segments, perfect = long_text(documents=6, each=3)
    worse = [text.replace("Hund", "Katze").replace("Mann", "M") for text in perfect]
    assert interval("chrf", segments, worse, perfect, seed=1) == interval("chrf", segments, worse, perfect, seed=1)
    assert interval("chrf", segments, worse, perfect, seed=1) != interval("chrf", segments, worse, perfect, seed=2)


def two_pairs(shared: bool) -> list[Segment]:
    """Five documents of two segments in each pair, whose names are the same where they are shared."""
    return [
        segment(langs=langs, id=f"{langs}{number}", doc=f"{'' if shared else langs}{number // 2}")
        for number in range(10)
        for langs in ("en-de", "en-cs")
    ]


def test_documents_are_drawn_whole_and_those_that_pairs_share_alike() -> None:
    counts = document_counts(two_pairs(shared=True), np.random.default_rng(0))
    assert list(counts) == ["en-cs", "en-de"]
    assert all(drawn.shape == (1000, 10) and (drawn.sum(axis=1) == 10).all() for drawn in counts.values())
    assert np.array_equal(counts["en-de"][:, ::2], counts["en-de"][:, 1::2])
    assert np.array_equal(counts["en-de"], counts["en-cs"])
    apart = document_counts(two_pairs(shared=False), np.random.default_rng(0))
    assert np.array_equal(apart["en-cs"], counts["en-cs"]) and not np.array_equal(apart["en-de"], apart["en-cs"])


def test_documents_are_drawn_among_those_of_the_same_pairs() -> None:
    segments = [
        *two_pairs(shared=True),
        segment(langs="en-fr", id="f1", doc="f"),
        segment(langs="en-fr", id="f2", doc="f"),
    ]
    segments += [segment(langs="en-de", id=f"own{number}", doc=f"own{number}") for number in range(3)]
    groups = document_groups(segments)
    assert groups == {
        ("en-cs", "en-de"): ["0", "1", "2", "3", "4"], ("en-de",): ["own0", "own1", "own2"], ("en-fr",): ["f1", "f2"],
    }  # fmt: skip
    counts = document_counts(segments, np.random.default_rng(0))
    assert (counts["en-de"][:, :10].sum(axis=1) == 10).all() and (counts["en-de"][:, 10:].sum(axis=1) == 3).all()
    assert (counts["en-fr"].sum(axis=1) == 2).all(), "one document alone: its segments are drawn"
