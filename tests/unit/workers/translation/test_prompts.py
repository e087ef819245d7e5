"""The exact texts each model family is asked with, how the family is chosen, and what is kept of the answer."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from search_spaces.errors import StudyError
from tests.support.examples import segment
from workers.translation.chat_template import Template
from workers.translation.prompts import PROMPTS, choose_prompt

EN_DE = segment("A dog runs.", "Ein Hund rennt.", langs="en-de")
EN_ZH = segment("A dog runs.", "一只狗在跑。", langs="en-zh_TW")
EXAMPLES = [
    segment("One.", "Eins.", "Eine.", langs="en-de"),
    segment("One.", "一。", langs="en-zh"),
    segment("Two.", "Zwei.", langs="en-de"),
    segment("Three.", "Drei.", langs="en-de"),
    segment("Four.", "Vier.", langs="en-de"),
]


CHATML = (
    "{% for turn in messages %}{{ '<|im_start|>' + turn.role + '\n' + turn.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_almas_prompt_is_the_one_its_code_has() -> None:
    # https://github.com/fe1ixxu/ALMA, utils/utils.py: get_prompt
    text = PROMPTS["alma"].render(EN_DE, None, EXAMPLES)
    assert text == "Translate this from English to German:\nEnglish: A dog runs.\nGerman:"


def test_a_variant_goes_by_its_own_name() -> None:
    text = PROMPTS["alma"].render(EN_ZH, None, ())
    taiwan = "Chinese (Traditional, Taiwan)"
    assert text == f"Translate this from English to {taiwan}:\nEnglish: A dog runs.\n{taiwan}:"


def test_the_chat_prompt_is_towers_in_the_models_own_template(character_tokenizer: Any) -> None:
    # https://huggingface.co/Unbabel/TowerInstruct-7B-v0.2, "Intended uses"
    tokenizer = copy.deepcopy(character_tokenizer)
    tokenizer.chat_template = CHATML
    assert PROMPTS["chat"].render(EN_DE, tokenizer, EXAMPLES) == (
        "<|im_start|>user\n"
        "Translate the following text from English into German.\n"
        "English: A dog runs.\n"
        "German:<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_few_shot_shows_the_first_three_examples_of_the_same_pair_and_their_first_reference() -> None:
    assert PROMPTS["few-shot"].render(EN_DE, None, EXAMPLES) == (
        "English: One.\nGerman: Eins.\n\n"
        "English: Two.\nGerman: Zwei.\n\n"
        "English: Three.\nGerman: Drei.\n\n"
        "English: A dog runs.\nGerman:"
    )


def test_few_shot_shows_no_example_of_several_lines_since_the_answer_ends_at_one() -> None:
    several = [segment("One.\nTwo.", "Eins.\nZwei.", langs="en-de"), segment("One.", "Eins.\nZwei.", langs="en-de")]
    assert PROMPTS["few-shot"].render(EN_DE, None, [*several, EXAMPLES[0]]) == (
        "English: One.\nGerman: Eins.\n\nEnglish: A dog runs.\nGerman:"
    )


def test_few_shot_without_an_example_of_the_pair_is_the_open_pair_alone() -> None:
    assert PROMPTS["few-shot"].render(EN_ZH, None, EXAMPLES[:1]) == (
        "English: A dog runs.\nChinese (Traditional, Taiwan):"
    )


def test_only_the_chat_template_brings_its_own_special_tokens() -> None:
    assert {name: prompt.special_tokens for name, prompt in PROMPTS.items()} == {
        "alma": True,
        "chat": False,
        "few-shot": True,
        "translategemma": False,
    }


def test_each_prompt_is_known_by_its_own_name() -> None:
    assert all(prompt.name == name for name, prompt in PROMPTS.items())


@pytest.mark.parametrize(
    ("name", "config", "template", "override", "chosen"),
    [
        ("haoranxu/ALMA-7B", {}, False, None, "alma"),
        ("runs/healed", {"_name_or_path": "haoranxu/ALMA-7B-R"}, False, None, "alma"),
        ("/home/alma/models/gemma-3-4b-pt", {}, False, None, "few-shot"),
        ("haoranxu/ALMA-7B", {}, True, None, "chat"),
        ("Unbabel/TowerInstruct-7B-v0.2", {}, True, None, "chat"),
        ("google/gemma-2-2b", {}, False, None, "few-shot"),
        ("models/captions", {"prompt_family": "alma"}, False, None, "alma"),
        ("Unbabel/TowerInstruct-7B-v0.2", {"prompt_family": "few-shot"}, True, None, "few-shot"),
        ("haoranxu/ALMA-7B", {"prompt_family": "alma"}, True, "few-shot", "few-shot"),
    ],
)
def test_the_family_is_the_override_then_the_config_then_the_template_then_the_name(
    name: str, config: dict[str, Any], template: bool, override: str | None, chosen: str
) -> None:
    assert choose_prompt(name, config, Template(CHATML) if template else None, override).name == chosen


@pytest.mark.parametrize(("config", "override"), [({}, "gemma"), ({"prompt_family": "gemma"}, None)])
def test_an_unknown_family_is_refused_with_those_there_are(config: dict[str, Any], override: str | None) -> None:
    with pytest.raises(StudyError, match="no prompt family 'gemma'; there are alma, chat, few-shot, translategemma"):
        choose_prompt("m", config, None, override)


@pytest.mark.parametrize(
    ("family", "raw", "clean"),
    [
        ("alma", " Ein Hund rennt.", "Ein Hund rennt."),
        ("alma", "\n\n Ein  Hund\trennt. \nEnglish: And then", "Ein Hund rennt."),
        ("few-shot", "Ein Hund rennt.\n\nEnglish: Two.\nGerman: Zwei.", "Ein Hund rennt."),
        ("chat", "Ein Hund rennt.\nEr bellt.\n", "Ein Hund rennt. Er bellt."),
        ("chat", "Ein\u00a0Hund\u3000rennt.", "Ein Hund rennt."),
        ("alma", " \n\t ", ""),
        ("chat", "", ""),
    ],
)
def test_the_hypothesis_is_cut_and_its_white_space_made_one_blank(family: str, raw: str, clean: str) -> None:
    assert PROMPTS[family].clean(raw) == clean


def test_a_source_of_several_lines_keeps_the_line_breaks_that_the_model_gave() -> None:
    source = "A dog runs.\n\nIt  barks."
    assert PROMPTS["chat"].clean("Ein  Hund rennt. \n\n\n\nEr\u3000bellt.\n", source) == "Ein Hund rennt.\n\nEr bellt."
    assert PROMPTS["chat"].clean("Ein Hund rennt. Er bellt.", source) == "Ein Hund rennt. Er bellt."
    assert PROMPTS["chat"].clean("Ein Hund\nrennt.", "A dog runs.\n") == "Ein Hund rennt."
