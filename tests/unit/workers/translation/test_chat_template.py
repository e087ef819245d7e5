"""How chat templates of many families are asked: without thinking, in which form, and which can not be."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from main import main
from orchestrator.search.prepared import prepare
from orchestrator.study.shipped import SHIPPED_CALIBRATION
from orchestrator.study.spec import StudySpec
from search_spaces.errors import StudyError
from tests.support.examples import segment
from workers.translation.chat_template import (
    Template,
    TemplateCall,
    after_answer,
    codes_for,
    read_template,
    spellings,
    way_of,
)
from workers.translation.prompts import PROMPTS, choose_prompt, refuse_unanswerable

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# The ends of known templates, after ChatML's turns; each begins the model's turn as the named family's does.
QWEN_3 = CHATML + (
    "{% if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}"
)
DEEPSEEK_3_1 = (
    "{% if not thinking is defined %}{% set thinking = false %}{% endif %}" + CHATML + "{% if add_generation_prompt %}"
    "{{ '<think>' if thinking else '</think>' }}{% endif %}"
)
GRANITE = "{%- if thinking %}{{ 'Think first.\n' }}{%- endif %}" + CHATML  # off unless asked for
GPT_OSS = (
    "{%- if reasoning_effort is not defined %}{%- set reasoning_effort = 'medium' %}{%- endif %}"
    "{{ '<|start|>system<|message|>Reasoning: ' + reasoning_effort + '<|end|>' }}{% for message in messages %}"
    "{% if message.role == 'assistant' %}{{ '<|start|>assistant<|channel|>final<|message|>' + message.content }}"
    "{{ '<|return|>' if loop.last else '<|end|>' }}{% else %}"
    "{{ '<|start|>' + message.role + '<|message|>' + message.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
MISTRAL = (
    "{% set effort = reasoning_effort if reasoning_effort is defined else 'high' %}"
    "{% if reasoning_effort is defined and reasoning_effort not in ['none', 'high'] %}"
    "{{ raise_exception('reasoning_effort must be none or high') }}{% endif %}"
    "{{ '[EFFORT]' + effort }}" + CHATML
)
SEED_OSS = "{% if thinking_budget == 0 %}{{ 'No thinking.\n' }}{% endif %}" + CHATML
COMMAND = CHATML + (
    "{% if reasoning is defined and not reasoning %}{{ '<|START_THINKING|><|END_THINKING|>' }}{% endif %}"
)
NEMOTRON = (
    "{% set ns = namespace(on=true) %}{% for message in messages %}{% if '/no_think' in message.content %}"
    "{% set ns.on = false %}{% endif %}{% endfor %}" + CHATML + "{% if add_generation_prompt %}"
    "{{ '<think>\n' if ns.on else '<think></think>' }}{% endif %}"
)
WITHOUT_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
IN_PARTS = (
    "{% for message in messages %}{{ '<turn>' + message.role }}{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{{ '</turn>' }}{% endfor %}"
)
ALWAYS_THINKS = CHATML + "{% if add_generation_prompt %}{{ '<think>\n' }}{% endif %}"
# As google/translategemma-4b-it: one part with both codes, or it is refused; the request is the template's own.
TRANSLATEGEMMA = """{%- set languages = {'en': 'English', 'de-DE': 'German', 'cs': 'Czech', 'zh-Hans': 'Chinese',
    'zh-Hant': 'Chinese', 'pt': 'Portuguese', 'sr': 'Serbian'} -%}
{{ bos_token }}{%- if messages[0].role != 'user' %}{{ raise_exception('Conversations must start with a user prompt.') }}
{%- endif -%}
{%- for message in messages -%}
    {%- if message.role == 'assistant' -%}{{ '<start_of_turn>model\n' + message.content | trim }}
    {%- else -%}
        {%- if message.content is not iterable or message.content is string or message.content | length != 1 -%}
            {{ raise_exception('User role must provide `content` as an iterable with exactly one item.') }}
        {%- endif -%}
        {%- set part = message.content[0] -%}
        {%- set given = part.source_lang_code | replace('_', '-') -%}
        {%- set wanted = part.target_lang_code | replace('_', '-') -%}
        {%- if given not in languages %}{{ raise_exception('unsupported source_lang_code ' + given) }}{%- endif -%}
        {%- if wanted not in languages %}{{ raise_exception('unsupported target_lang_code ' + wanted) }}{%- endif -%}
        {{ '<start_of_turn>user\nYou are a professional ' + languages[given] + ' (' + given + ') to '
            + languages[wanted] + ' (' + wanted + ') translator.\n\n\n' + part.text | trim }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif -%}"""
CODED_BY_VARIABLES = (
    "{% if not (source_lang_code and target_lang_code) %}{{ raise_exception('name both languages') }}{% endif %}"
    "{{ source_lang_code + '>' + target_lang_code + ': ' + messages[0].content }}"
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CHATML, ""),
        (QWEN_3, "enable_thinking=False"),
        (DEEPSEEK_3_1, ""),
        (GRANITE, ""),
        (GPT_OSS, "reasoning_effort=low"),
        (MISTRAL, "reasoning_effort=none"),
        (SEED_OSS, "thinking_budget=0"),
        (COMMAND, "reasoning=False"),
        (NEMOTRON, "system message /no_think"),
        (WITHOUT_SYSTEM, ""),
        (ALWAYS_THINKS, ""),
        (IN_PARTS, ""),
        (TRANSLATEGEMMA, ""),
    ],
)
def test_what_turns_thinking_off_is_passed_where_it_changes_something(text: str, said: str) -> None:
    assert way_of(Template(text)).said == said


def test_the_form_of_the_content_is_found_by_trying() -> None:
    assert way_of(Template(CHATML)) == way_of(Template(WITHOUT_SYSTEM)) == TemplateCall()
    assert way_of(Template(IN_PARTS)) == TemplateCall(in_parts=True)
    assert way_of(Template(TRANSLATEGEMMA)) == TemplateCall(coded="content")
    assert way_of(Template(CODED_BY_VARIABLES)) == TemplateCall(coded="variables")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ raise_exception('only tools') }}", r"it says: only tools"),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", "it leaves the text out"),
        ("{% if %}", "line 1 of it"),
        ("{{ messages[0]['content'] + 1 }}", "it says: can only concatenate str"),
    ],
)
def test_a_template_that_can_not_be_asked_is_refused_with_the_way_out(text: str, reason: str) -> None:
    with pytest.raises(StudyError, match=rf"can't be asked for a translation \({reason}.*--prompt few-shot"):
        choose_prompt("m", {}, Template(text))
    assert choose_prompt("m", {}, Template(text), "few-shot") == PROMPTS["few-shot"]


def test_the_family_goes_by_the_template_and_says_what_is_passed() -> None:
    qwen = choose_prompt("m", {}, Template(QWEN_3))
    assert (qwen.name, qwen.passed, qwen.key) == ("chat", "enable_thinking=False", "chat, enable_thinking=False")
    assert choose_prompt("m", {}, Template(CHATML)) == PROMPTS["chat"] and PROMPTS["chat"].key == "chat"
    assert choose_prompt("m", {}, Template(TRANSLATEGEMMA)).name == "translategemma"


@pytest.mark.parametrize(
    ("pair", "codes"),
    [
        ("en-de", ("en", "de-DE")),
        ("cs-zh", ("cs", "zh-Hans")),
        ("en-zh_TW", ("en", "zh-Hant")),
        ("pt_BR-en", ("pt", "en")),
    ],
)
def test_a_template_that_writes_the_request_gets_codes_that_it_knows(pair: str, codes: tuple[str, str]) -> None:
    template = Template(TRANSLATEGEMMA)
    assert codes_for(template, way_of(template), *pair.split("-")) == codes
    refuse_unanswerable(PROMPTS["translategemma"], template, [segment("A dog runs.", langs=pair)])


def test_a_language_or_script_that_the_template_does_not_know_is_refused() -> None:
    for pair in ("en-th", "en-sr_Latn"):
        with pytest.raises(StudyError, match=f"for {pair} it says: unsupported target_lang_code .*--prompt"):
            refuse_unanswerable(PROMPTS["translategemma"], Template(TRANSLATEGEMMA), [segment("A dog.", langs=pair)])
    with pytest.raises(StudyError, match="leave --prompt out, or choose --prompt chat"):
        refuse_unanswerable(PROMPTS["translategemma"], Template(CHATML), [segment()])
    with pytest.raises(StudyError, match="has no chat template, which the prompt takes"):
        refuse_unanswerable(PROMPTS["chat"], None, [segment()])
    refuse_unanswerable(PROMPTS["few-shot"], None, [segment()])


def test_spellings_are_the_nearest_first_and_never_of_another_script() -> None:
    assert spellings("de") == ("de", "de-DE", "de_DE")
    assert spellings("pt_BR") == ("pt-BR", "pt_BR", "pt")
    assert spellings("sr_Latn") == ("sr-Latn", "sr_Latn")
    assert spellings("zh_TW")[:1] == ("zh-TW",) and "zh-Hant" in spellings("zh_TW") and "zh" not in spellings("zh_TW")
    assert spellings("zh") == ("zh", "zh-Hans", "zh_Hans", "zh-CN", "zh_CN")


@pytest.mark.parametrize(
    ("text", "behind"),
    [
        (CHATML, "<|im_end|>\n"),
        (QWEN_3, "<|im_end|>\n"),
        (GPT_OSS, "<|return|>"),
        (TRANSLATEGEMMA, "<end_of_turn>\n"),
        (IN_PARTS, "</turn>"),
        ("{{ messages[0]['content'] }}", ""),
    ],
)
def test_what_ends_a_turn_is_what_the_template_writes_behind_an_answer(text: str, behind: str) -> None:
    assert after_answer(Template(text, (("bos_token", "<bos>"),))) == behind


@pytest.mark.parametrize("text", [CHATML, QWEN_3, GPT_OSS, IN_PARTS, TRANSLATEGEMMA, NEMOTRON])
def test_a_request_is_what_transformers_renders(text: str, character_tokenizer: Any, tmp_path: Path) -> None:
    tokenizer = copy.deepcopy(character_tokenizer)
    tokenizer.chat_template = text
    tokenizer.save_pretrained(tmp_path)
    template = read_template(tmp_path)
    assert template is not None and template.text == text and ("bos_token", "<s>") in template.special_tokens
    prompt = choose_prompt("m", {}, template)
    rendered = prompt.render(segment("A dog runs."), tokenizer, ())
    assert "A dog runs." in rendered
    way = way_of(template)
    messages, variables = way.ask("A dog runs.", "en", "de-DE")
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **variables)
    if prompt.name == "translategemma":
        assert rendered == expected == PROMPTS["chat"].render(segment("A dog runs."), tokenizer, ())
        assert rendered.startswith("<s><start_of_turn>user\nYou are a professional English (en) to German (de-DE)")
    elif text == QWEN_3:
        assert rendered.endswith("German:<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_a_template_is_found_where_transformers_looks(tmp_path: Path) -> None:
    assert read_template(tmp_path) is None
    config = {"chat_template": [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"bos_token": {"content": "<s>"}}))
    assert read_template(tmp_path) == Template("a", (("bos_token", "<s>"),))
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "c"}))
    assert read_template(tmp_path) == Template("c", (("bos_token", "<s>"),))
    (tmp_path / "chat_template.jinja").write_text("d")
    assert read_template(tmp_path) == Template("d", (("bos_token", "<s>"),))


def test_a_model_that_can_not_be_asked_is_refused_before_anything_is_written(
    save_llama: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_llama()
    (folder / "chat_template.jinja").write_text("{{ raise_exception('only with tools') }}")
    data, out = tmp_path / "test.jsonl", tmp_path / "out"
    data.write_text(json.dumps({"src": "A dog runs.", "ref": "Ein Hund rennt.", "langs": "en-de"}))
    asked = ["--data", str(data), "--outdir", str(out), "--model_id", str(folder), "--device_map", "cpu"]
    assert main([*asked, "--max_new_tokens", "4"]) == 2
    assert "it says: only with tools" in capsys.readouterr().err and not out.exists()
    spec = StudySpec(data=str(data), out=str(out), model=str(folder), calibration=str(SHIPPED_CALIBRATION))
    with pytest.raises(StudyError, match=r"it says: only with tools.*--prompt few-shot"):
        prepare(spec, Console(quiet=True))
    (folder / "chat_template.jinja").write_text(CHATML)
    assert prepare(spec, Console(quiet=True)).base.name == str(folder)
