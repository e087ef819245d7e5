"""How a model family is asked to translate, and how its output becomes one clean hypothesis.

The family is chosen from the model's own files; `--prompt` overrides the choice.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from search_spaces.errors import StudyError
from workers.languages.codes import language_name, special_names, split_pair
from workers.reading.segments import Segment
from workers.translation.chat_template import Template, codes_for, refusals, render, template_of, unusable, way_of

log = logging.getLogger(__name__)

# The messages, and the variables beside them, that a chat template is given.
Messages = tuple[list[dict[str, Any]], dict[str, Any]]

SHOTS = 3
_MANY_BREAKS = re.compile(r"\n{3,}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """How the models of a family are asked for a translation."""

    name: str
    """Its key in PROMPTS."""
    render: Callable[[Segment, Any, Sequence[Segment]], str]
    """(segment, tokenizer, examples) -> the text that the model continues."""
    special_tokens: bool
    """Whether the tokenizer adds its own special tokens; a chat template writes them itself."""
    one_line: bool
    """Whether the hypothesis ends at the first line break; a base model continues with invented examples after it."""
    passed: str = ""
    """What is passed to the model's chat template so that it does not think first, in words."""

    @property
    def key(self) -> str:
        """What tells its requests from those of another: its name, and what is passed."""
        return f"{self.name}, {self.passed}" if self.passed else self.name

    def answered(self, pair: Segment, tokenizer: Any) -> str:
        """The request without examples, and the pair's translation after it: what calibration reads."""
        return with_translation(self.render(pair, tokenizer, ()), pair)

    def clean(self, text: str, source: str = "") -> str:
        """The hypothesis in a raw continuation: cut, and without outer or repeated white space. Line breaks stay where
        the source has some; of a source of one line it is one line."""
        text = text.strip()
        if self.one_line:
            text = text.split("\n", 1)[0]
        elif "\n" in source.strip():
            lines = "\n".join(" ".join(line.split()) for line in text.split("\n"))
            return _MANY_BREAKS.sub("\n\n", lines)
        return " ".join(text.split())


def with_translation(request: str, pair: Segment) -> str:
    """A request and the pair's translation after it."""
    return f"{request} {pair.references[0]}"


def _alma(segment: Segment, tokenizer: Any, examples: Sequence[Segment]) -> str:
    """ALMA's prompt as its code has it ("to"; its README says "into"): https://github.com/fe1ixxu/ALMA."""
    source, target = _names(segment)
    return f"Translate this from {source} to {target}:\n{source}: {segment.source}\n{target}:"


def _chat(segment: Segment, tokenizer: Any, examples: Sequence[Segment]) -> str:
    """TowerInstruct's instruction (https://huggingface.co/Unbabel/TowerInstruct-7B-v0.2), in the model's template."""
    return _applied(tokenizer, *_chat_request(segment, _template(tokenizer)))


def _coded(segment: Segment, tokenizer: Any, examples: Sequence[Segment]) -> str:
    """The text and the codes of both languages; the template writes the request
    (https://huggingface.co/google/translategemma-4b-it)."""
    return _applied(tokenizer, *_coded_request(segment, _template(tokenizer)))


def _chat_request(segment: Segment, template: Template) -> Messages:
    way = way_of(template)
    if way.coded:
        return _coded_request(segment, template)
    source, target = _names(segment)
    return way.ask(f"Translate the following text from {source} into {target}.\n{source}: {segment.source}\n{target}:")


def _coded_request(segment: Segment, template: Template) -> Messages:
    way = way_of(template)
    if not way.coded:
        raise StudyError(
            "the prompt translategemma is for chat templates that write the request from the languages' codes, which "
            "this model's does not; leave --prompt out, or choose --prompt chat"
        )
    codes = codes_for(template, way, segment.source_language, segment.target_language)
    _warn_of_plainer_codes(segment.langs, codes)
    return way.ask(segment.source, *codes)


@lru_cache(maxsize=1024)
def _warn_of_plainer_codes(langs: str, codes: tuple[str, str]) -> None:
    """Say once a process where a template knows a language, and not its variant."""
    for asked, found in zip(langs.split("-"), codes, strict=True):
        if "_" in asked and found.isalpha():
            log.warning("the chat template knows no %s, so translations are asked for in %s", asked, found)


def _template(tokenizer: Any) -> Template:
    template = template_of(tokenizer)
    if template is None:
        raise no_template()
    return template


def no_template() -> StudyError:
    """The error of a chat prompt for a model that has no chat template."""
    return StudyError(
        "the model has no chat template, which the prompt takes; choose --prompt few-shot or --prompt alma, or put its "
        "template into chat_template.jinja"
    )


def _applied(tokenizer: Any, messages: list[dict[str, Any]], variables: Mapping[str, Any]) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **variables))


def _few_shot(segment: Segment, tokenizer: Any, examples: Sequence[Segment]) -> str:
    """Labelled pairs of one line, the last left open, for base models that follow no instruction."""
    source, target = _names(segment)
    shots = shots_for(segment.langs, examples)
    shown = "".join(f"{source}: {shot.source}\n{target}: {shot.references[0]}\n\n" for shot in shots)
    return f"{shown}{source}: {segment.source}\n{target}:"


def shots_for(langs: str, examples: Sequence[Segment]) -> list[Segment]:
    """What a few-shot prompt of this language pair shows: the first examples of one line."""
    fitting = (one for one in examples if one.langs == langs and "\n" not in f"{one.source}{one.references[0]}")
    return list(islice(fitting, SHOTS))


PROMPTS: dict[str, Prompt] = {
    "alma": Prompt("alma", _alma, special_tokens=True, one_line=True),
    "chat": Prompt("chat", _chat, special_tokens=False, one_line=False),
    "few-shot": Prompt("few-shot", _few_shot, special_tokens=True, one_line=True),
    "translategemma": Prompt("translategemma", _coded, special_tokens=False, one_line=False),
}

# Those that a chat template writes, and what it is given.
CHATS: dict[str, Callable[[Segment, Template], Messages]] = {"chat": _chat_request, "translategemma": _coded_request}


def choose_prompt(
    name: str, config: Mapping[str, Any], template: Template | None, override: str | None = None
) -> Prompt:
    """The prompt for a model: the override, else `prompt_family` in its config, else by its chat template, else ALMA's
    for a model that names ALMA as itself or its origin, else few-shot. Raises StudyError for an unknown family, and for
    a chat template that can't be asked for a translation."""
    family = override or config.get("prompt_family")
    if family is not None:
        if family not in PROMPTS:
            raise StudyError(f"there is no prompt family {family!r}; there are {', '.join(PROMPTS)}")
    elif template is not None:
        family = "translategemma" if template.translates else "chat"
    else:
        # The last part of a path or hub id alone: a folder further up says nothing of the model.
        origin = " ".join(Path(part).name for part in (name, str(config.get("_name_or_path", "")))).lower()
        family = "alma" if "alma" in origin else "few-shot"
    prompt = PROMPTS[family]
    return replace(prompt, passed=way_of(template).said) if template and family in CHATS else prompt


def refuse_unanswerable(prompt: Prompt, template: Template | None, segments: Sequence[Segment]) -> None:
    """Raise StudyError where a model can't be asked for these translations: without a chat template that the prompt
    takes, or with one that refuses a language or leaves the source out. One segment a language pair is tried."""
    if prompt.name not in CHATS:
        return
    if template is None:
        raise no_template()
    for segment in {segment.langs: segment for segment in reversed(segments)}.values():
        messages, variables = CHATS[prompt.name](segment, template)
        try:
            rendered = render(template, messages, **variables)
        except refusals() as error:
            raise unusable(f"for {segment.langs} it says: {' '.join(str(error).split())}") from error
        if _unspaced(segment.source) not in _unspaced(rendered):
            raise unusable(f"it leaves the source out or changes it: {segment.source[:80]!r}")


def _unspaced(text: str) -> str:
    """Templates may trim a text, and normalise its line breaks."""
    return "".join(text.split())


def request_identity(prompt: Prompt, pairs: Iterable[str]) -> dict[str, Any]:
    """What decides how texts of these language pairs are asked for, for a store's key."""
    named = special_names(code for pair in pairs for code in split_pair(pair))
    return {"prompt": prompt.key, **({"named": named} if named else {})}


def without_examples(prompt: Prompt, segments: Sequence[Segment], examples: Sequence[Segment]) -> list[str]:
    """The pairs that a few-shot prompt has no example for, and so asks zero-shot; empty for other families."""
    if prompt.name != "few-shot":
        return []
    shown = {example.langs for example in examples}
    return sorted({segment.langs for segment in segments} - shown)


def _names(segment: Segment) -> tuple[str, str]:
    return language_name(segment.source_language), language_name(segment.target_language)
