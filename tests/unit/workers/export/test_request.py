"""An export's `prompt.json` spells out what this project would ask, for every family of prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search_spaces.errors import StudyError
from tests.support.examples import segment
from tests.support.paths import CAPTIONS
from workers.export.request import request_record, spellings
from workers.languages.codes import normalise_language
from workers.loading.load import load_tokenizer
from workers.translation.chat_template import TEMPLATE_FILE
from workers.translation.decoding import Decoding
from workers.translation.prompt_file import Asking
from workers.translation.prompts import PROMPTS

CHAT = "{% for one in messages %}<|{{ one.role }}|>{{ one.content }}</s>{% endfor %}<|assistant|>"
SHOWN = tuple(segment(f"A dog {number}.", f"Ein Hund {number}.", langs="en-de") for number in range(3))
SOURCE = "A “cat” sits — {before} <s> $1 there."


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The shipped model's small files, which a test may change."""
    for file in CAPTIONS.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.mark.parametrize("family", ["alma", "few-shot", "chat"])
def test_before_source_and_after_are_the_prompt(model: Path, family: str) -> None:
    if family == "chat":
        (model / TEMPLATE_FILE).write_text(CHAT)
    record = request_record(model, Asking(Decoding(prompt=family), examples=SHOWN), ["en-de", "en-pt_BR"])
    tokenizer = load_tokenizer(model)
    for pair in ("en-de", "en-pt_BR"):
        request = record["requests"][pair]
        asked = PROMPTS[family].render(segment(SOURCE, langs=pair), tokenizer, SHOWN)
        assert request["before"] + SOURCE + request["after"] == asked
    assert (record["one_line"], record["chat"]) == (family != "chat", family == "chat")
    assert record["context"] == 512


def test_what_ends_a_turn_is_told(model: Path) -> None:
    (model / TEMPLATE_FILE).write_text(CHAT.replace("<|assistant|>", "{% if add_generation_prompt %}<|a|>{% endif %}"))
    record = request_record(model, Asking(Decoding(prompt="chat")), ["en-de"])
    assert record["turn_end_ids"] == [2]


def test_prompts_that_a_penalty_looks_at_are_never_padded(model: Path) -> None:
    assert not request_record(model, Asking(), ["en-de"])["unpadded"]
    settings = model / "generation_config.json"
    settings.write_text(settings.read_text().replace("{", '{"repetition_penalty": 1.2,', 1))
    assert request_record(model, Asking(), ["en-de"])["unpadded"]


def test_a_template_that_takes_no_text_is_refused(model: Path) -> None:
    (model / TEMPLATE_FILE).write_text("{{ raise_exception('tools only') }}")
    with pytest.raises(StudyError, match="tools only"):
        request_record(model, Asking(Decoding(prompt="chat")), ["en-de"])


@pytest.mark.parametrize(
    ("language", "some"),
    [
        ("de", {"de", "deu", "de-de", "deu-latn"}),
        ("cs", {"cs", "ces", "ces-latn"}),
        ("zh", {"zh", "zho", "cmn", "zho-hans", "zh-cn"}),
        ("zh_TW", {"zh-tw", "zho-hant"}),
        ("pt_BR", {"pt-br", "por-br"}),
        ("ar_EG", {"arz", "ar-eg"}),
        ("ace", {"ace"}),
    ],
)
def test_codes_of_two_and_three_letters_mean_the_language(language: str, some: set[str]) -> None:
    found = set(spellings(language))
    assert some <= found
    assert all(normalise_language(code) == language for code in found)


def test_no_code_means_two_languages() -> None:
    languages: list[Any] = ["zh", "zh_TW", "pt", "pt_BR", "ar", "ar_EG", "de", "de_AT", "sr", "sr_Latn"]
    every = [code for language in languages for code in spellings(language)]
    assert len(every) == len(set(every))
