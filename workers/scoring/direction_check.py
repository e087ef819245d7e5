"""Whether data is in the languages that it says: swapped files and a wrong pair are seen before anything is translated.

Texts are joined to pieces long enough to tell a language by, and told by their script or by py3langid, between the two
languages of the pair and those of `RIVALS`. Languages that are written almost alike are never held against each other
on one side alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from search_spaces.errors import StudyError
from workers.languages.codes import language_name, split_pair
from workers.languages.detection import RIVALS, SHORTEST, SURE, classify, is_known
from workers.languages.scripts import WRITTEN_IN, prose, script_of, script_share, width
from workers.reading.segments import Segment
from workers.scoring.metrics import lines_by_pair

MOST_SEGMENTS = 200
# About a sentence: py3langid is hardly ever wrong on so much.
PIECE = 100
# The share of a side's pieces that must be told to be in another language.
MOST_PIECES = 0.75
# How much more of a text is in one script than in the other.
CLEARLY = 0.5

CLOSE = tuple(
    frozenset(group.split())
    for group in (
        "hr bs sr sl mk bg",
        "cs sk pl hsb",
        "ru uk be bg sr mk",
        "no nb nn da sv fo is",
        "es pt gl ca oc an ast ext it",
        "fr oc ca wa ht gcr gcf",
        "de lb nl af fy",
        "id ms jv su min ace",
        "zh yue wuu lzh ja",
        "hi mr ne sa bho mai",
        "fa ps ur ku ckb",
        "az tr tk uz crh",
        "ar ary arz aeb",
        "en pcm",
        "xh zu ss nr",
        "lv lt ltg",
    )
)


@dataclass(frozen=True, slots=True)
class LanguageCounts:
    """What one side's pieces are in: language -> pieces; "" for those that can't be told."""

    pieces: Counter[str]

    def mostly(self) -> str:
        """The language that most of the pieces are in; empty where there is none."""
        language, count = max(self.pieces.items(), key=lambda item: item[1], default=("", 0))
        return language if count >= MOST_PIECES * self.pieces.total() else ""

    def said(self, language: str) -> str:
        """`German (12 of 13 pieces)`."""
        return f"{language_name(language)} ({self.pieces[language]} of {self.pieces.total()} pieces of text)"


def refuse_wrong_direction(name: str, segments: Sequence[Segment], off: str) -> None:
    """Raise StudyError where a pair's sources or references are in another language than the data says.

    name: the data's, for the error. off: what the user says where the check is wrong.
    """
    for pair, lines in lines_by_pair(segments).items():
        step = max(len(lines) // MOST_SEGMENTS, 1)
        some = [segments[line] for line in lines[::step]]
        source, target = split_pair(pair)
        sources = _told((one.source for one in some), source, target)
        references = _told((one.references[0] for one in some if one.references), target, source)
        if wrong := _wrong(pair, sources, references):
            raise StudyError(f"{name}: {wrong}. If it is right as it is, say {off}")


def _wrong(pair: str, sources: LanguageCounts, references: LanguageCounts) -> str:
    """What is wrong with a pair and the way out; empty for nothing."""
    source, target = split_pair(pair)
    if (sources.mostly(), references.mostly()) == (target, source):
        return (
            f"the sources of {pair} are in {sources.said(target)} and the references in {references.said(source)}: "
            f"swap the two files, or name the pair as {target}-{source} (--langs, or what the rows say)"
        )
    for side, told, wanted in (("sources", sources, source), ("references", references, target)):
        found = told.mostly()
        if found not in ("", wanted) and not _close(found, wanted):
            return (
                f"the {side} of {pair} are in {told.said(found)}, not in {language_name(wanted)}: give the file that "
                "belongs there, or name the pair that it is (--langs, or what the rows say)"
            )
    return ""


def _told(texts: Iterable[str], own: str, other: str) -> LanguageCounts:
    """What these texts are in, which should be `own`; `other` is the pair's other language."""
    return LanguageCounts(Counter(_language(piece, own, other) for piece in _pieces(texts)))


def _pieces(texts: Iterable[str]) -> list[str]:
    """The texts, short ones joined until they are long enough; what is left over is one where there is no other."""
    pieces: list[str] = []
    begun = ""
    for text in texts:
        begun = f"{begun}\n{prose(text)}".strip()
        if width(begun) >= PIECE:
            pieces.append(begun)
            begun = ""
    return pieces or ([begun] if width(begun) >= SHORTEST else [])


def _language(piece: str, own: str, other: str) -> str:
    """The language that a piece is in; empty where that can't be told for sure."""
    if script_of(own) != script_of(other) and {script_of(own), script_of(other)} <= set(WRITTEN_IN):
        ours, theirs = script_share(piece, own), script_share(piece, other)
        if ours is not None and theirs is not None and abs(ours - theirs) >= CLEARLY:
            return _named(piece, own if ours > theirs else other)
    if not (is_known(own) and is_known(other)) or own.split("_")[0] == other.split("_")[0]:
        return ""
    found, probability = classify(piece, {own.split("_")[0], other.split("_")[0], *RIVALS})
    if probability < SURE:
        return ""
    return next((code for code in (own, other) if code.split("_")[0] == found), found)


def _named(piece: str, likely: str) -> str:
    """The language of a piece that is in the script of a likely one: that, or a rival that it is for sure."""
    base = likely.split("_")[0]
    found, probability = classify(piece, {base, *RIVALS}) if is_known(likely) else (base, 0.0)
    return likely if found == base or probability < SURE else found


def _close(one: str, other: str) -> bool:
    bases = {one.split("_")[0], other.split("_")[0]}
    return len(bases) == 1 or any(bases <= group for group in CLOSE)
