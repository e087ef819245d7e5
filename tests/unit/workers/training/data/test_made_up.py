"""Sources made up of training sources: their words in an order that was seen, new, and the same for the same seed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from search_spaces.errors import StudyError
from workers.reading.training_data import TrainingData, examples, training_data
from workers.training.data.synthetic_sources import draw_sources, main

WHO = ("a man", "a woman", "a dog", "two children", "an old man")
DOES = ("runs", "sits", "looks at a bird", "plays with a ball", "jumps")
WHERE = ("in the park .", "on the beach .", "near a car .", "in the street .")
TEXTS = [f"{who} {does} {where}" for n, who in enumerate(WHO) for does in DOES for where in WHERE[n % 2 :: 2]]


def written(file: Path, langs: str = "en-de", texts: list[str] = TEXTS, other: str = "Etwas .") -> str:
    file.write_text("".join(json.dumps({"src": one, "ref": other, "langs": langs}) + "\n" for one in texts))
    return str(file)


@pytest.fixture
def data(tmp_path: Path) -> TrainingData:
    first, second = written(tmp_path / "de.jsonl"), written(tmp_path / "fr.jsonl", "en-fr", TEXTS[:10], "Quelque .")
    return training_data([(first, 1.0), (second, 1.0)], ["en-de", "en-fr"])


def trigrams(text: str) -> set[tuple[str, ...]]:
    words = ["", "", *text.split(), ""]
    return set(zip(words, words[1:], words[2:], strict=False))


def test_what_is_made_up_is_new_and_every_three_words_were_seen(data: TrainingData) -> None:
    made = list(draw_sources(data, 24, seed=1))
    seen = set().union(*map(trigrams, TEXTS))
    assert all(trigrams(source) <= seen for _, source in made)
    sources = [source for _, source in made]
    assert len(set(sources)) == 24 and not set(sources) & set(TEXTS)
    assert Counter(langs for langs, _ in made)["en-de"] > 12
    assert made == list(draw_sources(data, 24, seed=1)) != list(draw_sources(data, 24, seed=2))


def test_more_than_there_can_be_is_refused_with_how_many_there_are(data: TrainingData) -> None:
    with pytest.raises(StudyError, match=r"(\d+) sources are all that could be made up of 50; ask for fewer"):
        list(draw_sources(data, 5000))


def test_what_can_not_be_made_up_is_refused(tmp_path: Path) -> None:
    chinese = training_data([(written(tmp_path / "zh.jsonl", "zh-en", ["一只狗。"]), 1.0)], ["zh-en"])
    with pytest.raises(StudyError, match="can't be made up in zh, which sets no spaces between words"):
        list(draw_sources(chinese, 5))
    lao = training_data([(written(tmp_path / "lo.jsonl", "lo-en", ["ໝາໂຕໜຶ່ງ."]), 1.0)], ["lo-en"])
    with pytest.raises(StudyError, match="can't be made up in lo"):
        list(draw_sources(lao, 5))
    dzongkha = training_data([(written(tmp_path / "dz.jsonl", "dz-en", ["ཁྱི་གཅིག"]), 1.0)], ["dz-en"])
    with pytest.raises(StudyError, match="can't be made up in dz"):
        list(draw_sources(dzongkha, 5))
    with pytest.raises(StudyError, match="no source in de-cs"):
        list(draw_sources(training_data([(written(tmp_path / "de.jsonl"), 1.0)], ["de-cs"]), 5))
    with pytest.raises(StudyError, match="count is 0"):
        list(draw_sources(chinese, 0))


def test_the_command_writes_sources_that_training_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "made_up.jsonl"
    asked = ["--training", written(tmp_path / "pairs.jsonl"), "--langs", "en-de", "--count", "30", "--out", str(out)]
    assert main(asked) == 0
    assert capsys.readouterr().out == f"30 sources in {out}\n"
    found = list(examples(training_data([(str(out), 1.0)], ["en-de"]), Counter(), sources_alone=True))
    assert len(found) == 30 and {one.reference for one in found} == {""}
    assert main([*asked[:-1], str(out), "--count", "100000"]) == 2
    assert "ask for fewer" in capsys.readouterr().err
