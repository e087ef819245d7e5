"""How a model family is asked to translate, and how its output becomes one clean hypothesis.

The family is chosen from the model's own files; `--prompt` overrides the choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces.errors import StudyError
from workers.reading.languages import language_name
from workers.reading.segments import Segment

SHOTS = 3


@dataclass(frozen=True, slots=True)
class Prompt:
    """A family's way of asking.

    name: its key in PROMPTS. render: (segment, tokenizer, examples) -> the text the model continues.
    special_tokens: whether the tokenizer adds its own (a chat template writes them itself).
    one_line: the hypothesis ends at the first line break; a base model goes on with invented examples after it.
    """

    name: str
    render: Callable[[Segment, Any, Sequence[Segment]], str]
    special_tokens: bool
    one_line: bool

    def clean(self, text: str) -> str:
        """The hypothesis in a raw continuation: cut, and without outer or repeated white space."""
        text = text.strip()
        if self.one_line:
            text = text.split("\n", 1)[0]
        return " ".join(text.split())


def _alma(segment: Segment, tokenizer: Any, examples: Sequence[Segment]) -> str:
    """ALMA's prompt as its code has it ("to"; its README says "into"): https://github.com/fe1ixxu/ALMA."""
    source, target = _names(segment)
    return f"Translate this from {source} to {target}:\n{source}: {segment.source}\n{target}:"


def _chat(segment: Segment, tokenizer: Any, examples: Sequence[Segment]) -> str:
    """TowerInstruct's instruction (https://huggingface.co/Unbabel/TowerInstruct-7B-v0.2), in the model's template."""
    source, target = _names(segment)
    request = f"Translate the following text from {source} into {target}.\n{source}: {segment.source}\n{target}:"
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": request}], tokenize=False, add_generation_prompt=True
    )
    return str(text)


def _few_shot(segment: Segment, tokenizer: Any, examples: Sequence[Segment]) -> str:
    """Labelled pairs, the last left open, for base models that follow no instruction."""
    source, target = _names(segment)
    shots = [example for example in examples if example.langs == segment.langs][:SHOTS]
    shown = "".join(f"{source}: {shot.source}\n{target}: {shot.references[0]}\n\n" for shot in shots)
    return f"{shown}{source}: {segment.source}\n{target}:"


PROMPTS: dict[str, Prompt] = {
    "alma": Prompt("alma", _alma, special_tokens=True, one_line=True),
    "chat": Prompt("chat", _chat, special_tokens=False, one_line=False),
    "few-shot": Prompt("few-shot", _few_shot, special_tokens=True, one_line=True),
}


def choose_prompt(name: str, config: Mapping[str, Any], has_chat_template: bool, override: str | None = None) -> Prompt:
    """The prompt for a model: the override, else `prompt_family` in its config, else its chat template, else ALMA's
    for a model that names ALMA as itself or its origin, else few-shot. Raises StudyError for an unknown family."""
    family = override or config.get("prompt_family")
    if family is not None:
        if family not in PROMPTS:
            raise StudyError(f"there is no prompt family {family!r}; there are {', '.join(PROMPTS)}")
        return PROMPTS[family]
    if has_chat_template:
        return PROMPTS["chat"]
    # The last part of a path or hub id alone: a folder further up says nothing of the model.
    origin = " ".join(Path(part).name for part in (name, str(config.get("_name_or_path", "")))).lower()
    return PROMPTS["alma" if "alma" in origin else "few-shot"]


def without_examples(prompt: Prompt, segments: Sequence[Segment], examples: Sequence[Segment]) -> list[str]:
    """The pairs that a few-shot prompt has no example for, and so asks zero-shot; empty for other families."""
    if prompt.name != "few-shot":
        return []
    shown = {example.langs for example in examples}
    return sorted({segment.langs for segment in segments} - shown)


def _names(segment: Segment) -> tuple[str, str]:
    return language_name(segment.source_language), language_name(segment.target_language)
