"""Cutting a line that is too long for its prompt into pieces, at sentences where it can, and joining what they became.

Only such a line is cut: what surrounds a sentence tells a model how to translate it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

# Behind the end of a sentence, with what closes it: where space follows, or at once in scripts that write none.
SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'»”’)\]]*\s+|(?<=[。！？।။።])[」』”’）]*\s*")
# Characters below which a sentence is not asked for alone.
SHORT = 12
# Languages whose scripts put no space between sentences.
UNSPACED = frozenset({"zh", "ja", "yue", "wuu", "lzh", "bo", "dz", "th", "lo", "km", "my"})


def pieces_of(text: str, fits: Callable[[str], bool]) -> list[str]:
    """The text a sentence at a time: a model that is used to sentences leaves some out where it is given many.

    A sentence of a few characters, which may be no more than an abbreviation, goes with the next where both fit. One
    that does not fit is cut at white space, and a word at any character; a single character is a piece whether it fits
    or not. Nothing but white space between pieces is lost.
    """
    pieces: list[str] = []
    held = ""
    for sentence in _sentences(text):
        if held and fits((held + sentence).strip()):
            sentence = held + sentence
        elif held:
            pieces.extend(_cut(held.strip(), fits))
        held = sentence if len(sentence.strip()) < SHORT else ""
        if not held:
            pieces.extend(_cut(sentence.strip(), fits))
    return [*pieces, *(_cut(held.strip(), fits) if held.strip() else ())]


def joined(texts: list[str], target: str) -> str:
    """The translations of a line's pieces as one line. target: a normalised language code."""
    between = "" if target.split("_")[0] in UNSPACED else " "
    return between.join(text for text in texts if text)


def _sentences(text: str) -> Iterator[str]:
    """The sentences with the white space behind them; together they are the text."""
    start = 0
    for end in SENTENCE_END.finditer(text):
        if end.end() > start:
            yield text[start : end.end()]
            start = end.end()
    if start < len(text):
        yield text[start:]


def _cut(text: str, fits: Callable[[str], bool]) -> Iterator[str]:
    """A sentence in halves, and these again while they do not fit: at the white space nearest to the middle, else in
    the middle."""
    if fits(text) or len(text) < 2:
        yield text
        return
    middle = len(text) // 2
    spaces = [match.start() for match in re.finditer(r"\s", text)]
    at = min(spaces, key=lambda place: abs(place - middle), default=middle)
    for part in (text[:at].strip(), text[at:].strip()):
        if part:
            yield from _cut(part, fits)
