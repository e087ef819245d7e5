"""What a model thinks before it answers, cut from its hypotheses: a block in the marks of its family.

Qwen 3 and many others write <think>, Magistral [THINK], Command A <|START_THINKING|>, Seed-OSS <seed:think>, EXAONE
<thought>, Gemma 4 a channel "thought", gpt-oss channels before the one called "final"
(https://cookbook.openai.com/articles/openai-harmony).
"""

from __future__ import annotations

BLOCKS: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought", "<channel|>"),
    ("<unused94>thought", "<unused95>"),
)
CHANNEL, FINAL, CHANNEL_END = "<|channel|>", "<|channel|>final<|message|>", "<|end|>"


def opened_by(prompt: str) -> str:
    """The mark of a block that a prompt ends in, so that the model is thinking from its first token on; else empty."""
    return next((opening for opening, _ in BLOCKS if prompt.rstrip().endswith(opening)), "")


def without_thinking(text: str, opened: str = "", source: str = "") -> tuple[str, bool]:
    """The answer in what a model said, and whether thinking stood before it; empty where it was never done with that.

    text: with the special tokens that it said. opened: see `opened_by`. source: a mark that it has itself is text.
    """
    if text.lstrip().startswith(CHANNEL):
        before, final, answer = text.rpartition(FINAL)
        return (answer.partition(CHANNEL_END)[0], bool(before.strip())) if final else ("", True)
    rest, thought = text, False
    while True:
        shorter = _block_cut(f"{opened}{rest}" if not thought else rest, source)
        if shorter is None:
            return rest, thought
        rest, thought = shorter, True


def _block_cut(text: str, source: str) -> str | None:
    """What follows a leading block; None where none leads. A block may be closed that was never opened."""
    for opening, closing in BLOCKS:
        if text.lstrip().startswith(opening) and not source.startswith(opening):
            return text.partition(closing)[2]
        before, found, after = text.partition(closing)
        if found and opening not in before and closing not in source and after.strip():
            return after
    return None
