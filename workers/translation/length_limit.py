"""Whether the length limit leaves room for the translations that are asked for, told before any is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workers.reading.segments import Segment
from workers.translation.prompts import Prompt
from workers.translation.translator import lines_of

# A suggested limit is so much above the longest reference, and a multiple of this.
ROOM, STEP = 1.25, 64


def limit_warning(segments: Sequence[Segment], tokenizer: Any, prompt: Prompt, limit: int) -> str | None:
    """That so many translations can't be whole within `limit` new tokens, judged by their shortest references, or by
    their sources where there are none; None where all have room.

    A source that is asked for line by line is judged by its longest line.
    """
    expected = [_expected(segment, prompt) for segment in segments]
    texts = [text for of_segment in expected for text in of_segment]
    lengths = iter(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]) if texts else iter(())
    needed = [max((next(lengths) for _ in of_segment), default=0) for of_segment in expected]
    longer = sum(length > limit for length in needed)
    if not longer:
        return None
    enough = -(-int(ROOM * max(needed)) // STEP) * STEP
    return (
        f"{longer:,} of {len(segments):,} translations need more than the {limit} new tokens that they may take (a "
        f"reference takes {max(needed):,}), and will be cut; raise --max-new-tokens to {enough}"
    )


def _expected(segment: Segment, prompt: Prompt) -> list[str]:
    """Texts about as long as what will be decoded in one go."""
    asked = lines_of(segment, prompt)
    reference = min(segment.references, key=len)
    if len(asked) == 1:
        return [reference or segment.source]
    lines = [line for line in reference.split("\n") if line.strip()]
    return lines if len(lines) == len(asked) else [one.source for one in asked]
