"""Which tokens count as used, and which belong to the prompt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from search_spaces.errors import StudyError
from tests.support.examples import segment
from tests.support.trained_tokenizers import PAIRS, byte_level
from workers.calibration.pair_parts import parts
from workers.compression.vocabulary import token_usage
from workers.compression.vocabulary.token_usage import usage_of
from workers.plan.compression_context import CompressionContext
from workers.reading.segments import Segment
from workers.reading.training_data import training_data
from workers.translation.prompts import PROMPTS


def context(pairs: Sequence[Segment] = PAIRS, text: Sequence[str] = ()) -> CompressionContext:
    return CompressionContext(pairs, PROMPTS["alma"], torch.device("cpu"), 0, calibration_text=text)


def test_held_out_texts_are_not_counted() -> None:
    tokenizer = byte_level()
    counted, measuring = parts(PAIRS, 0)
    usage = usage_of(tokenizer, context())
    assert len(usage.held_out) == len(measuring) > 0
    assert not any(pair.source in text for pair in counted for text in usage.held_out)
    assert all(pair.source in text for pair, text in zip(measuring, usage.held_out, strict=True))


def test_shares_as_worked_out_by_hand() -> None:
    tokenizer = byte_level()
    lines = ["!!", "!", "?", "!", "!", "!", "!", "~"]
    # The eighth is held out. The first seven have a <s> each, one ?, and 2 + 5 of !.
    usage = usage_of(tokenizer, context((), lines))
    assert usage.held_out == ("~",)
    assert usage.prompt == frozenset()
    ids = tokenizer.convert_tokens_to_ids(["<s>", "!", "?"])
    assert usage.weights == {number: pytest.approx(count / 15) for number, count in zip(ids, (7, 7, 1), strict=True)}


@pytest.mark.parametrize(
    ("pairs", "text", "said"),
    [
        ((), (), "--calibration"),
        (PAIRS[:7], (), "there are fewer than 8"),
        (PAIRS, ["line"] * 7, "there are fewer than 8"),
    ],
)
def test_too_little_to_count_is_refused(pairs: Sequence[Segment], text: Sequence[str], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        usage_of(byte_level(), context(pairs, text))


def test_the_examples_of_few_shot_prompts_count_as_the_prompt() -> None:
    tokenizer, prompt = byte_level(), PROMPTS["few-shot"]
    german = [pair for pair in PAIRS if pair.langs == "en-de"]
    usage = usage_of(tokenizer, replace(context(), prompt=prompt))
    shown = prompt.render(replace(german[0], source=""), tokenizer, PAIRS)
    examples = shown[: shown.rindex("\n\n")]
    assert examples.count("German:") == 3
    assert usage.prompt >= set(tokenizer(examples)["input_ids"])
    # No pair's own source is part of the prompt.
    assert not usage.prompt >= {token for pair in german for token in tokenizer(f" {pair.source}")["input_ids"]}


def test_every_language_pair_weighs_alike() -> None:
    tokenizer = byte_level()
    few = [segment(f"quokka {number}", f"quokka {number}", langs="en-cs") for number in range(3)]
    many = [segment(f"dog {number}", f"Hund {number}") for number in range(300)]
    weights = usage_of(tokenizer, context([*few, *many])).weights
    assert sum(weights.values()) == pytest.approx(1.0)
    only_few = {tokenizer.convert_tokens_to_ids(token) for token in tokenizer.tokenize(" quokka")}
    only_few -= {
        token
        for pair in many
        for token in tokenizer(PROMPTS["alma"].render(pair, tokenizer, ()) + " Hund")["input_ids"]
    }
    assert only_few
    # Three pairs of 303 would be a hundredth of the tokens.
    assert max(weights[token] for token in only_few) > 0.01


def trained(folder: Path, pairs: Sequence[tuple[str, str]], store: Path | None = None) -> CompressionContext:
    """A context whose study trains on these pairs of English and German."""
    file = folder / f"train-{len(pairs)}.jsonl"
    rows = [{"translation": {"en": source, "de": reference}} for source, reference in pairs]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = training_data([(str(file), 1.0)], ["en-de"])
    return replace(context(), training=data, store=store, parent_key="a model")


def test_training_pairs_are_counted_too_and_from_the_store_the_second_time(tmp_path: Path) -> None:
    tokenizer = byte_level()
    new = tokenizer.convert_tokens_to_ids(tokenizer.tokenize("~~"))[-1]
    assert new not in usage_of(tokenizer, context()).weights
    asked = trained(tmp_path, [("~~", "~~")] * 2000, tmp_path / "store")
    usage = usage_of(tokenizer, asked)
    assert usage.weights[new] > 0.0 and sum(usage.weights.values()) == pytest.approx(1.0)
    assert len(list((tmp_path / "store").glob("tokens-*/counts.json"))) == 1
    assert usage_of(tokenizer, replace(asked, store=None)) == usage
    assert asked.training is not None
    (tmp_path / "train-2000.jsonl").unlink()
    assert usage_of(tokenizer, asked) == usage


def test_texts_that_the_tokenizer_is_checked_on_are_counted_nowhere(tmp_path: Path) -> None:
    tokenizer = byte_level()
    _, measuring = parts(PAIRS, 0)
    german = [(pair.source, pair.references[0]) for pair in measuring if pair.langs == "en-de"]
    assert german
    assert usage_of(tokenizer, trained(tmp_path, german)).weights == usage_of(tokenizer, context()).weights


def test_of_many_training_pairs_the_first_of_each_direction_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = byte_level()
    monkeypatch.setattr(token_usage, "COUNTED_PAIRS", 3)
    few = usage_of(tokenizer, trained(tmp_path, [(f"dog {number}", f"Hund {number}") for number in range(3)]))
    many = usage_of(tokenizer, trained(tmp_path, [(f"dog {number}", f"Hund {number}") for number in range(90)]))
    assert few.weights == many.weights
