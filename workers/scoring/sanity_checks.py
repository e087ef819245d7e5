"""The checks of one hypothesis: empty, copied, too short or long, repeated, in a foreign script or language, cut.

A check compares a hypothesis with its own source and references, so that it trips on the model and not on the data:
what a reference does as well is no failure. A source alone, whose reference is "", is compared with itself in length.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from workers.languages.detection import other_language
from workers.languages.scripts import WRITTEN_IN, script_of, script_share, width, words
from workers.reading.segments import Segment

Check = Callable[[Segment, str, bool], bool]

# Lengths in `width`, so that 20 is 20 Latin letters or 10 Chinese ones; the slack keeps short segments out of it.
SHORTEST_RATIO, LONGEST_RATIO, SLACK = 0.4, 2.0, 20
COPIED_SHARE, FEWEST_WORDS = 0.8, 4
# A loop is a stretch that is said four times or more on end; a phrase, four words (eight where each is a character).
LOOP_WIDTH, PHRASE, CHARACTER_PHRASE, SAID = 16, 4, 8, 3
_LOOP = re.compile(r"(\S.{0,39}?)\1{3,}", re.DOTALL)


def is_empty(segment: Segment, text: str, truncated: bool) -> bool:
    """Nothing but spaces."""
    return not text.strip()


def is_copied(segment: Segment, text: str, truncated: bool) -> bool:
    """At least 80 % the source's own words, where no reference is so close to it; texts of four words or more."""
    if len(words(text)) < FEWEST_WORDS:
        return False
    if _shared(segment.source, text) < COPIED_SHARE:
        return False
    return all(_shared(segment.source, reference) < COPIED_SHARE for reference in segment.references)


def is_too_short(segment: Segment, text: str, truncated: bool) -> bool:
    """Less than 0.4 of the shortest reference's length, and 20 Latin letters shorter; empty is a check of its own."""
    shortest = min(_lengths(segment))
    return bool(text.strip()) and width(text) < SHORTEST_RATIO * shortest and shortest - width(text) > SLACK


def is_too_long(segment: Segment, text: str, truncated: bool) -> bool:
    """More than twice the longest reference's length, and 20 Latin letters longer."""
    longest = max(_lengths(segment))
    return width(text) > LONGEST_RATIO * longest and width(text) - longest > SLACK


def is_repeated(segment: Segment, text: str, truncated: bool) -> bool:
    """A loop, or a phrase three times or more and twice as often as the source or any reference says one."""
    others = (segment.source, *segment.references)
    if _loops(text) and not any(map(_loops, others)):
        return True
    said = _most_said(text)
    return said >= SAID and said >= 2 * max(map(_most_said, others))


def is_wrong_script(segment: Segment, text: str, truncated: bool) -> bool:
    """Less than half as many words in the target's script as the reference has that is least in it; a source alone
    asks for all."""
    language = segment.target_language
    if script_of(language) not in WRITTEN_IN or (share := script_share(text, language)) is None:
        return False
    expected = min(script_share(reference, language) or 0.0 if reference else 1.0 for reference in segment.references)
    return share < 0.5 * expected


def is_wrong_language(segment: Segment, text: str, truncated: bool) -> bool:
    """In another language for sure, where no reference is told to be in that one too."""
    found = other_language(text, segment.source_language, segment.target_language)
    if found is None:
        return False
    return all(
        other_language(reference, segment.source_language, segment.target_language) is None
        for reference in segment.references
    )


def is_truncated(segment: Segment, text: str, truncated: bool) -> bool:
    """The length limit cut it."""
    return truncated


CHECKS: dict[str, Check] = {
    "empty": is_empty,
    "copied": is_copied,
    "too_short": is_too_short,
    "too_long": is_too_long,
    "repeated": is_repeated,
    "wrong_script": is_wrong_script,
    "wrong_language": is_wrong_language,
    "truncated": is_truncated,
}


def _lengths(segment: Segment) -> list[float]:
    """Widths of the references; of the source where it stands alone."""
    return [width(reference or segment.source) for reference in segment.references]


def _shared(source: str, text: str) -> float:
    """The share of the longer one's words that both have, 0 to 1."""
    ours, theirs = Counter(words(source)), Counter(words(text))
    return (ours & theirs).total() / max(ours.total(), theirs.total(), 1)


def _loops(text: str) -> bool:
    return any(width(found[0]) >= LOOP_WIDTH for found in _LOOP.finditer(text))


def _most_said(text: str) -> int:
    """How often the phrase that is said most is said."""
    said = words(text)
    size = CHARACTER_PHRASE if said and sum(map(len, said)) < 1.5 * len(said) else PHRASE
    counts = Counter(tuple(said[start : start + size]) for start in range(len(said) - size + 1))
    return max(counts.values(), default=1)
