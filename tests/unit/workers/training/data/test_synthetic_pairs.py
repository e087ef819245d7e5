"""Pairs that a model writes: sources in a trained language, new, with its translations, and the same for one seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.candidate import BaseModel
from tests.support.examples import dataset, segment
from tests.support.paths import CAPTIONS
from workers.loading.load import load_tokenizer
from workers.loading.opening import open_model
from workers.plan.evaluation_plan import EvaluationPlan
from workers.reading.training_data import examples, training_data
from workers.runtime.training_progress import Progress
from workers.training.data.synthetic_pairs import (
    Written,
    due,
    head_ids,
    is_sound,
    more_readily,
    sample,
    save_pairs,
    shares_of,
    source_of,
    unquoted,
    write_pairs,
)
from workers.translation.decoding import Decoding
from workers.translation.prompts import PROMPTS

STOP, BREAK = 0, 1


def plan_of(store: Path, seed: int = 0, measured: str = "A dog runs.") -> EvaluationPlan:
    return EvaluationPlan(
        data={"dev": dataset([segment(measured, "Ein Hund rennt.")])},
        calibration=dataset([segment("A cat sleeps.", "Eine Katze schläft.")]),
        metrics=("chrf",),
        decoding=Decoding(max_new_tokens=48, batch_size=16),
        store=store,
        seed=seed,
    )


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return open_model(str(CAPTIONS), None, False).base


@pytest.fixture(scope="module")
def written(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Written, list[Progress]]:
    heard: list[Progress] = []
    plan = plan_of(tmp_path_factory.mktemp("store"))
    return write_pairs(base, base, plan, ["de-en", "fr-en"], 15, heard.append), heard


def test_a_model_writes_sources_and_translates_them(written: tuple[Written, list[Progress]]) -> None:
    pairs = written[0].pairs
    assert written[0].asked == {"de-en": 8, "fr-en": 7}
    assert len(pairs) + sum(written[0].missing().values()) == 15 and len(pairs) > 5
    assert {pair.langs for pair in pairs} == {"de-en", "fr-en"}
    assert len({pair.source for pair in pairs}) == len(pairs)
    assert all(pair.source.strip() == pair.source and "\n" not in pair.source for pair in pairs)
    assert all(is_sound(pair) and pair.references[0].strip() for pair in pairs)
    # A source ends with its own full stop where the next token would have begun a line.
    assert any(pair.source.endswith(".") for pair in pairs)


def test_what_is_done_is_told(written: tuple[Written, list[Progress]]) -> None:
    heard = written[1]
    assert {one.name for one in heard} == {"synthetic pairs"}
    assert list(dict.fromkeys(one.doing for one in heard)) == ["languages", "sources", "translations"]
    assert all(0 <= one.tokens <= one.of for one in heard)
    assert heard[-1].tokens == heard[-1].of


def test_one_seed_writes_the_same_and_another_does_not(base: BaseModel, tmp_path: Path) -> None:
    one, again, other = (
        [pair.source for pair in write_pairs(base, base, plan_of(tmp_path, seed), ["de-en"], 4).pairs]
        for seed in (1, 1, 2)
    )
    assert one == again != other


def test_what_is_measured_on_is_left_out(base: BaseModel, tmp_path: Path) -> None:
    pairs = write_pairs(base, base, plan_of(tmp_path), ["de-en"], 4).pairs
    spelt = f"  {pairs[0].source} "
    left = write_pairs(base, base, plan_of(tmp_path, measured=spelt), ["de-en"], 4)
    assert [pair.source for pair in left.pairs] == [pair.source for pair in pairs[1:]]
    assert left.missing()["de-en"] == 4 - len(left.pairs)


def test_training_reads_what_was_saved_in_both_directions(
    written: tuple[Written, list[Progress]], tmp_path: Path
) -> None:
    file = tmp_path / "synthetic.jsonl"
    file.write_text("of before\n")
    save_pairs(written[0].pairs, file)
    data = training_data([(str(file), 1.0)], ["en-de", "de-en", "fr-en"])
    read = list(examples(data, Counter()))
    pairs = written[0].pairs
    german = [pair for pair in pairs if pair.langs == "de-en"]
    assert [one.source for one in read if one.langs == "de-en"] == [pair.source for pair in german]
    assert [one.reference for one in read if one.langs == "en-de"] == [pair.source for pair in german]
    assert [path.name for path in tmp_path.iterdir()] == ["synthetic.jsonl"]


def test_of_both_directions_the_one_is_taken_that_is_written_more_readily() -> None:
    sound = {"en-zh": 60, "zh-en": 7, "cs-en": 31, "en-cs": 31, "de-fr": 0, "pt_BR-en": 20, "en-pt_BR": 44}
    assert more_readily(sound) == ["en-zh", "cs-en", "de-fr", "en-pt_BR"]


def test_the_more_fails_the_more_is_drawn_until_a_language_is_given_up() -> None:
    asked = {"en-de": 100, "de-en": 100, "cs-en": 100, "zh-en": 10}
    found = {"en-de": 40, "de-en": 16, "cs-en": 7, "zh-en": 10}
    assert due(asked, found, dict.fromkeys(asked, 64)) == {"en-de": 96, "de-en": 336}


def test_shares_differ_by_at_most_one() -> None:
    assert shares_of(11, 3) == [4, 4, 3]
    assert shares_of(2, 3) == [1, 1, 0]


@pytest.mark.parametrize(
    ("langs", "text", "sound"),
    [
        ("en-de", "Where can I find my order?", True),
        ("zh-en", "请问我的订单在哪里？", True),
        ("en-de", "", False),
        ("en-de", "Das Wetter in Hamburg ist heute leider nicht besonders gut.", False),
        ("zh-en", "Where can I find my order?", False),
        ("en-de", "Un homme.", False),
        ("en-de", "yes yes yes yes yes yes yes yes yes yes", False),
        ("en-de", 'She said: "I will come home.', False),
        ("en-de", 'She said: "I will come home."', True),
        ("en-de", "Good morning. German: Guten Morgen.", False),
    ],
)
def test_what_is_sound_is_a_text_in_the_source_language(langs: str, text: str, sound: bool) -> None:
    assert is_sound(source_of(langs, text)) is sound


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ('"How are you? "', "How are you?"),
        ("„Wie geht es dir?“", "Wie geht es dir?"),
        ("「你好」", "你好"),
        ('"Yes," she said, "now."', '"Yes," she said, "now."'),
        ('He said "now"', 'He said "now"'),
        ('"', '"'),
        ("I'm here.", "I'm here."),
    ],
)
def test_quotation_marks_around_all_of_a_text_go(text: str, plain: str) -> None:
    assert unquoted(text) == plain


def test_a_prompt_is_given_up_to_its_source() -> None:
    tokenizer = load_tokenizer(CAPTIONS)
    head = tokenizer.decode(head_ids("en-de", tokenizer, PROMPTS["alma"], ()), skip_special_tokens=True)
    assert head.strip() == "Translate this from English to German:\nEnglish:"


class FullModel:
    """Has memory for two sequences; what it writes is the last id of its prompt, then a line break."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.asked: list[int] = []

    def generate(self, ids: torch.Tensor, **settings: Any) -> torch.Tensor:
        self.asked.append(len(ids))
        if len(ids) > 2:
            raise torch.OutOfMemoryError("full")
        return torch.cat([ids, ids[:, -1:], torch.full((len(ids), 1), BREAK), ids[:, -1:]], dim=1)


class Numbers:
    """A tokenizer whose ids are numbers."""

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "".join("." * (id == BREAK) + ("\n" if id == BREAK else str(id)) for id in ids)


def test_where_memory_runs_out_half_of_them_are_drawn_at_a_time() -> None:
    model = FullModel()
    found = list(sample(model, Numbers(), [(5, number) for number in range(2, 7)], [STOP, BREAK]))
    assert found == [(f"{number}.", True) for number in range(2, 7)]
    assert model.asked == [5, 2, 3, 1, 2]


def test_one_that_does_not_fit_is_an_error() -> None:
    class Fuller(FullModel):
        def generate(self, ids: torch.Tensor, **settings: Any) -> torch.Tensor:
            raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        list(sample(Fuller(), Numbers(), [(5, 6), (5, 7)], [STOP, BREAK]))
