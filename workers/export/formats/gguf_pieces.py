"""How llama.cpp cuts a text by a sentencepiece vocabulary, to hold what is written against the model's own tokenizer.

The way of llama.cpp's llm_tokenizer_spm (https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp): tokens
that a user added are taken out first, longest first; then, of neighbours that together are a token, the pair of the
highest score is joined, the leftmost of equals, until there is none; what is no token goes byte by byte.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping, Sequence
from typing import Any

from workers.loading.gguf_tokenizer import CONTROL, OWN

SPACE = "▁"


class Pieces:
    """A sentencepiece vocabulary of a GGUF file."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        """said: the file's metadata."""
        tokens: Sequence[str] = said["tokenizer.ggml.tokens"]
        kinds: Sequence[int] = said["tokenizer.ggml.token_type"]
        self._numbers = {token: number for number, token in enumerate(tokens)}
        self._scores: Sequence[float] = said["tokenizer.ggml.scores"]
        self._space = SPACE if said.get("tokenizer.ggml.add_space_prefix", True) else ""
        apart = [token for token, kind in zip(tokens, kinds, strict=True) if kind in (CONTROL, OWN)]
        longest = sorted(apart, key=len, reverse=True)
        self._apart = re.compile(f"({'|'.join(map(re.escape, longest))})") if longest else None
        self._special = frozenset(apart)
        self._unknown = said.get("tokenizer.ggml.unknown_token_id")

    def cut(self, text: str) -> list[int]:
        """The text's token ids, without one that begins it."""
        parts = self._apart.split(text) if self._apart else [text]
        found: list[int] = []
        before_is_special = True
        for part in filter(None, parts):
            if part in self._special:
                found.append(self._numbers[part])
                before_is_special = True
                continue
            found += self._joined((self._space if before_is_special else "") + part.replace(" ", SPACE))
            before_is_special = False
        return found

    def _joined(self, text: str) -> list[int]:
        pieces: list[str | None] = list(text)
        after = [*range(1, len(pieces)), -1]
        before = list(range(-1, len(pieces) - 1))
        waiting: list[tuple[float, int, int, str]] = []

        def offer(left: int, right: int) -> None:
            if left < 0 or right < 0:
                return
            whole = f"{pieces[left]}{pieces[right]}"
            if (number := self._numbers.get(whole)) is not None:
                heapq.heappush(waiting, (-self._scores[number], left, right, whole))

        for left, right in enumerate(after):
            offer(left, right)
        while waiting:
            _, left, right, whole = heapq.heappop(waiting)
            if pieces[left] is None or pieces[right] is None or f"{pieces[left]}{pieces[right]}" != whole:
                continue
            pieces[left], pieces[right] = whole, None
            after[left] = after[right]
            if after[left] >= 0:
                before[after[left]] = left
            offer(before[left], left)
            offer(left, after[left])
        return [number for piece in pieces if piece is not None for number in self._of_piece(piece)]

    def _of_piece(self, piece: str) -> list[int]:
        if (number := self._numbers.get(piece)) is not None:
            return [number]
        of_bytes = [self._numbers.get(f"<0x{byte:02X}>", self._unknown) for byte in piece.encode()]
        return [number for number in of_bytes if number is not None]
