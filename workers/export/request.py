"""How an exported model is asked, spelt out: what stands before and behind each source, pair by pair, as text.

The exported script then needs no template, no table of languages and no prompt family.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search_spaces.errors import StudyError
from workers.checkpoints.model_files import context_length, read_config
from workers.languages.codes import ISO_639_3, MAIN_REGION, name_languages, normalise_language, split_pair
from workers.languages.scripts import script_of
from workers.reading.segments import Segment
from workers.translation.chat_template import template_of, unusable
from workers.translation.prompt_file import Asking
from workers.translation.prompts import CHATS, choose_prompt, refuse_unanswerable

# Stands for the source while a prompt is taken apart; templates change nothing in it.
SOURCE = "SOURCE7d1f0c"


def request_record(
    folder: Path, asking: Asking, pairs: Sequence[str], trust_remote_code: bool = False
) -> dict[str, Any]:
    """What `prompt.json` of an export holds beside what `Asking` has. pairs: the normalised pairs to be asked for.

    Raises StudyError for a pair or a template that can't be asked.
    """
    from transformers import GenerationConfig

    from workers.decoder.settings import reads_the_prompt
    from workers.loading.load import load_tokenizer
    from workers.translation.turn_end import turn_end

    name_languages(asking.languages)
    tokenizer = load_tokenizer(folder, trust_remote_code)
    template = template_of(tokenizer)
    config = read_config(folder)
    prompt = choose_prompt(str(folder), config, template, asking.decoding.prompt)
    segments = {pair: Segment("line", pair, SOURCE, (SOURCE,), "line", "") for pair in pairs}
    refuse_unanswerable(prompt, template, list(segments.values()))
    requests = {}
    for pair, segment in segments.items():
        before, found, after = prompt.render(segment, tokenizer, asking.examples).rpartition(SOURCE)
        if not found:
            raise unusable(f"for {pair} it leaves the source out")
        requests[pair] = {"before": before, "after": after}
    end = turn_end(tokenizer)
    settings = folder / "generation_config.json"
    return {
        "requests": requests,
        "codes": {code: language for pair in pairs for language in split_pair(pair) for code in spellings(language)},
        "special_tokens": prompt.special_tokens,
        "one_line": prompt.one_line,
        "chat": prompt.name in CHATS,
        "turn_end_ids": list(end.ids),
        "turn_end": end.text,
        "context": context_length(config),
        "unpadded": settings.is_file() and reads_the_prompt(GenerationConfig.from_pretrained(folder)),
        "trust_remote_code": trust_remote_code,
    }


def spellings(language: str) -> list[str]:
    """The codes by which the exported script knows a normalised language: of two and of three letters, with and without
    its script and its main region; in lower case, their parts joined by hyphens."""
    base, *subtags = language.split("_")
    bases = [base, *(code for code, known in ISO_639_3.items() if known in (base, language))]
    ends = ["", *subtags, script_of(language), MAIN_REGION.get(base, "")]
    found = dict.fromkeys("_".join(filter(None, (code, end))) for code in bases for end in ends)
    return [code.lower().replace("_", "-") for code in found if _means(code, language)]


def _means(code: str, language: str) -> bool:
    try:
        return normalise_language(code) == language
    except ValueError:
        return False


def refuse_no_pairs(pairs: Sequence[str]) -> None:
    """Raise StudyError where no language pair is known."""
    if not pairs:
        raise StudyError("the study's measurement names no language pair; name those to export for with --langs")
