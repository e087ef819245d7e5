"""What ends the model's turn, by its chat template: often a token that neither generation_config nor tokenizer name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from search_spaces.errors import StudyError
from workers.translation.chat_template import after_answer, template_of

# A mark such as <|im_end|> or [/INST], in a vocabulary that has no token for it.
_MARK = re.compile(r"<[^<>\s]{2,40}>|\[/?[A-Z_]{2,40}\]")


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """ids: of the token that ends a turn; empty where there is none. text: the mark that ends it, where it is no token
    of its own, else empty."""

    ids: tuple[int, ...] = ()
    text: str = ""


def turn_end(tokenizer: Any) -> TurnEnd:
    """What a tokenizer's chat template writes behind the model's answer; nothing where it has no template, or writes
    no mark."""
    template = template_of(tokenizer)
    if template is None:
        return TurnEnd()
    try:
        behind = after_answer(template).lstrip()
    except StudyError:
        # The template can't be asked; a prompt that does without it can.
        return TurnEnd()
    for number in tokenizer(behind, add_special_tokens=False)["input_ids"]:
        if number in tokenizer.added_tokens_decoder:
            return TurnEnd((number,))
        if tokenizer.decode([number]).strip():
            break
    mark = _MARK.match(behind)
    return TurnEnd(text=mark[0]) if mark else TurnEnd()
