"""Which calibration pairs serve a study's directions, and which directions and languages they leave out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from workers.languages.codes import split_pair
from workers.languages.scripts import script_of
from workers.reading.segments import DataSet, Segment, segments_digest


@dataclass(frozen=True, slots=True)
class Coverage:
    """found: the pairs' own directions. missing: directions of the study that none of them serves. unseen: languages
    of the study that none of them has a text in, a script of its own being a language of its own."""

    found: tuple[str, ...]
    missing: tuple[str, ...]
    unseen: tuple[str, ...]


def coverage(pairs: Sequence[Segment], wanted: Iterable[str]) -> Coverage:
    """What these pairs leave out of the wanted directions."""
    found = sorted({pair.langs for pair in pairs})
    directions = sorted(set(wanted))
    there = {tuple(map(with_script, split_pair(langs))) for langs in found}
    texts = {language for both in there for language in both}
    languages = sorted({language for langs in directions for language in split_pair(langs)})
    return Coverage(
        tuple(found),
        tuple(langs for langs in directions if not _served(langs, there)),
        tuple(language for language in languages if with_script(language) not in texts),
    )


def _served(langs: str, there: set[tuple[str, ...]]) -> bool:
    one, other = map(with_script, split_pair(langs))
    return (one, other) in there or (other, one) in there


def serving(pairs: DataSet, wanted: Iterable[str]) -> DataSet:
    """The pairs that serve the wanted directions; all of them where none does.

    A direction takes its own pairs; where there are none, those of its languages in another region, and those of the
    other direction, turned round.
    """
    directions = set(wanted)
    own = tuple(pair for pair in pairs.segments if pair.langs in directions)
    further = [
        turned
        for langs in sorted(directions - {pair.langs for pair in own})
        for pair in pairs.segments
        if (turned := _turned(pair, langs)) is not None
    ]
    if not further:
        return in_directions(pairs, directions)
    kept = (*own, *further)
    return replace(pairs, segments=kept, digest=segments_digest(kept))


def in_directions(pairs: DataSet, wanted: Iterable[str]) -> DataSet:
    """The pairs of exactly these directions; all of them where none is."""
    there = set(wanted)
    kept = tuple(pair for pair in pairs.segments if pair.langs in there)
    if not kept or len(kept) == len(pairs.segments):
        return pairs
    return replace(pairs, segments=kept, digest=segments_digest(kept))


def with_script(language: str) -> str:
    """A language and the script that it is written in: `zh_Hans` for zh, `zh_Hant` for zh_TW, `pt_Latn` for pt_BR."""
    return f"{language.split('_')[0]}_{script_of(language)}"


def _turned(pair: Segment, langs: str) -> Segment | None:
    """The pair as one of this direction; None where its languages are others."""
    one, other = map(with_script, split_pair(langs))
    source, target = map(with_script, split_pair(pair.langs))
    if (source, target) == (one, other):
        return replace(pair, langs=langs, id=f"{pair.id}:{langs}")
    if (source, target) == (other, one):
        return replace(pair, langs=langs, id=f"{pair.id}:{langs}", source=pair.references[0], references=(pair.source,))
    return None
