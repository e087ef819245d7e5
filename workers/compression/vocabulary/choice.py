"""The choice of the tokens that stay: all that any text needs, then the most used, each with the pieces it is built
from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from search_spaces.errors import CandidateError
from workers.compression.vocabulary.tokenizer_model import TokenModel


def choose(
    model: TokenModel,
    whole: Iterable[str],
    required: Iterable[str],
    weights: Mapping[str, float],
    size: int,
    bare: int = 0,
) -> set[str]:
    """The tokens of a vocabulary of exactly `size` rows.

    whole: tokens that stay and are found without merges, as added tokens are. required: other tokens that stay.
    weights: token -> how much it is used; equals follow by generality. A token whose missing pieces do not fit gives
    way to the next. bare: rows that stay without naming a token. Raises CandidateError for a size below the least, or
    above the most, that this tokenizer allows.
    """
    kept = set(whole)
    for token in sorted(model.alphabet.union(required) - kept):
        kept |= model.pieces(token)
    room = size - bare
    if len(kept) > room:
        raise CandidateError(
            f"trim_vocabulary.tokens={size} is fewer than the {len(kept) + bare} that must stay: bytes, special "
            f"tokens, the prompt's tokens and what they are merged from; keep at least {len(kept) + bare}"
        )
    order = sorted(model.by_generality, key=lambda token: -weights.get(token, 0.0))
    while len(kept) < room:
        before = len(kept)
        for token in order:
            if token not in kept and len(missing := model.pieces(token) - kept) <= room - len(kept):
                kept |= missing
            if len(kept) == room:
                break
        if len(kept) == before:
            raise CandidateError(
                f"trim_vocabulary.tokens={size} is more than the {len(kept) + bare} rows that name a token; keep fewer "
                f"than {len(kept) + bare}"
            )
    return kept
