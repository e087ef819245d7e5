"""Where two translations of a segment differ, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import NamedTuple

from orchestrator.report.html_parts import text

# Thai to Khmer, kana and CJK are written without spaces: there each character, with its marks, counts as a word.
UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
MARKS = r"\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u17b4-\u17d3\u3099\u309a"
SIGNS = r"!-/:-@\[-`{-~\u00a1-\u00bf\u2010-\u206f\u3000-\u303f\uff00-\uff0f\uff1a-\uff20"
TOKEN = re.compile(rf"\s+|[{UNSPACED}][{MARKS}]*|[{SIGNS}]|[^\s{UNSPACED}{SIGNS}]+")


class Stretch(NamedTuple):
    """A stretch of two texts: what each has there, and whether that is the same."""

    ours: str
    theirs: str
    same: bool


def differences(ours: str, theirs: str) -> list[Stretch]:
    """Two texts as stretches in their order, which put together are the texts again; whole words are compared."""
    words, others = TOKEN.findall(ours), TOKEN.findall(theirs)
    return [
        Stretch("".join(words[start:end]), "".join(others[low:high]), change == "equal")
        for change, low, high, start, end in SequenceMatcher(None, others, words, autojunk=False).get_opcodes()
    ]


def mark_differences(hypothesis: str, baseline: str) -> str:
    """The hypothesis as HTML: words that the baseline has not are marked, and so is each place where it has more."""
    parts: list[str] = []
    for ours, theirs, same in differences(hypothesis, baseline):
        here = text(ours)
        if same:
            parts.append(here)
        elif here.strip():
            parts.append(f'<mark title="baseline: {text(theirs.strip())}">{here}</mark>')
        else:
            parts.append(f'{here}<mark class="gone" title="baseline: {text(theirs.strip())}"></mark>')
    return "".join(parts)
