"""Whether a trimmed tokenizer, as transformers loads it, does what its parent's did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces.errors import ModelFilesError
from workers.compression.vocabulary.token_usage import Usage, encode_texts


def refuse_other_ids(parent: Any, trimmed: Any, new_ids: Mapping[int, int]) -> None:
    """Raise ModelFilesError when the loaded tokenizer has other tokens, or other ids for them, than were written."""
    expected = {token: new_ids[old] for token, old in parent.get_vocab().items() if old in new_ids}
    found = trimmed.get_vocab()
    if found != expected:
        token = next(token for token in sorted(expected | found) if found.get(token) != expected.get(token))
        raise ModelFilesError(
            f"transformers gives the trimmed tokens other numbers than their file: {token!r} is "
            f"{found.get(token)}, and should be {expected.get(token)}. This tokenizer can't be trimmed; leave "
            "trim_vocabulary out"
        )


def refuse_changed_text(parent: Any, trimmed: Any, usage: Usage, new_ids: Mapping[int, int]) -> float:
    """The share of the tokens of the texts left out, but for the prompt's, that are spelt with other tokens now.

    Raises ModelFilesError when such a text does not come back from the trimmed tokenizer as it does from the
    parent's, or when one whose tokens all stay is cut into other tokens.
    """
    dropped = total = 0
    before = encode_texts(parent, usage.held_out, usage.special_tokens)
    after = encode_texts(trimmed, usage.held_out, usage.special_tokens)
    for text, old, new in zip(usage.held_out, before, after, strict=True):
        gone = sum(token not in new_ids for token in old)
        same_ids = gone > 0 or [new_ids[token] for token in old] == new
        if not same_ids or parent.decode(old) != trimmed.decode(new):
            raise ModelFilesError(
                f"the trimmed tokenizer makes {trimmed.decode(new)!r} of {text!r}, the parent's "
                f"{parent.decode(old)!r}; keep more tokens, or leave trim_vocabulary out for this model"
            )
        dropped += gone
        total += len(old)
    return dropped / max(total - usage.prompt_tokens, 1)
