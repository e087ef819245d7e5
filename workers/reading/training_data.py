"""What a study trains on: files of pairs, each with its weight, and the directions that are trained (no torch)."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from search_spaces.candidate import digest_of
from search_spaces.errors import StudyError
from workers.languages.codes import split_pair
from workers.reading.segments import Segment
from workers.reading.streaming import Texts, content_digest, stream
from workers.reading.tally import Tally

BAD_ROWS = "bad rows"
OTHER_LANGUAGES = "pairs of other languages"
EMPTY = "pairs with an empty side"
MEASURED = "pairs of the dev or test data"


@dataclass(frozen=True, slots=True)
class TrainingFile:
    """A file of pairs in any format that the reader knows; of parallel text, one side: the others are beside it, with
    the same name and another language (`train.en.gz` and `train.de.gz`).

    weight: how much of the training its pairs are, beside the other files'. digest: SHA-256 of the content, unpacked,
    64 hex digits.
    """

    path: str
    weight: float
    digest: str


@dataclass(frozen=True, slots=True)
class TrainingData:
    """files: where the pairs are. langs: the directions that are trained, such as ("de-en", "en-de"): those of the
    study's data. A pair serves every direction that its languages allow. skip_bad_rows: bad rows are left out and
    counted; else the first one is raised as a DataError. measured: texts, by `normalise_text`, that a study measures
    on: pairs with one of them are left out and counted."""

    files: tuple[TrainingFile, ...]
    langs: tuple[str, ...]
    skip_bad_rows: bool = False
    measured: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Sixteen hex digits over the files' content and weights, the directions and what is left out; where the files
        lie is not in it."""
        files = [{"digest": file.digest, "weight": file.weight} for file in self.files]
        return digest_of({"files": files, "langs": list(self.langs), "measured": list(self.measured)})


@dataclass(frozen=True, slots=True)
class Example:
    """One translation to learn."""

    langs: str
    """The normalised language pair."""
    source: str
    """The source text."""
    reference: str
    """The translation."""
    file: int
    """Position of its file in `TrainingData.files`."""
    line: int | None
    """Line in that file, 1-based; None where the format joins several rows into one pair."""

    @property
    def segment(self) -> Segment:
        """The example as the project's prompts and checks take it."""
        name = f"{self.file}:{self.line}:{self.langs}"
        return Segment(name, self.langs, self.source, (self.reference,), doc_id=name, domain="")


def training_data(
    files: Sequence[tuple[str, float]], langs: Sequence[str], skip_bad_rows: bool = False
) -> TrainingData:
    """The study's training data: (path, weight) of each file, and normalised directions; reads every file once for its
    digest. Raises StudyError for no file, a weight not above 0 or a file named twice, DataError for one that is
    missing, empty or damaged."""
    if not files:
        raise StudyError("there is nothing to train on; name a file of source and reference pairs with --training FILE")
    directions = tuple(sorted(set(langs)))
    found: list[TrainingFile] = []
    for path, weight in files:
        if isinstance(weight, bool) or not math.isfinite(weight) or weight <= 0:
            raise StudyError(f"the weight of {path} is {weight!r}; it must be a number above 0, or leave the file out")
        found.append(TrainingFile(path, float(weight), content_digest(Path(path), directions)))
    first: dict[str, str] = {}
    for file in found:
        if file.digest in first:
            raise StudyError(
                f"{first[file.digest]} and {file.path} are the same training pairs; name one of them (of parallel "
                "text, one side), and give it a larger weight where it should count for more"
            )
        first[file.digest] = file.path
    return TrainingData(tuple(found), directions, skip_bad_rows)


def rows(data: TrainingData, counts: Counter[str]) -> Iterator[tuple[int, Texts]]:
    """(position of the file, texts of one row) of every file in turn, read from disk as they are asked for.

    counts: told how many bad rows were left out. Raises DataError for a bad row unless the data says to skip them.
    """
    languages = {language for langs in data.langs for language in split_pair(langs)}
    for position, file in enumerate(data.files):
        tally = Tally(Path(file.path), data.skip_bad_rows)
        for texts in stream(Path(file.path), languages, tally):
            yield position, texts
        counts[BAD_ROWS] += len(tally.bad_rows)
        for reason, count in tally.left_out:
            counts[reason] += count


def examples(data: TrainingData, counts: Counter[str], sources_alone: bool = False) -> Iterator[Example]:
    """Every example, in the files' order. counts: told what was left out, by reason. sources_alone: sources without a
    reference are examples too, for trainings that read the teacher's translations; their reference is ""."""
    directions = [(langs, *split_pair(langs)) for langs in data.langs]
    measured = frozenset(data.measured)
    for position, texts in rows(data, counts):
        sides = texts.by_language
        served = [(langs, sides[one], sides[other]) for langs, one, other in directions if {one, other} <= sides.keys()]
        if not served:
            counts[OTHER_LANGUAGES] += 1
        if measured and not measured.isdisjoint(normalise_text(text) for _, *both in served for text in both):
            # The others of a row give away what one of its texts is a translation of.
            counts[MEASURED] += len(served)
            continue
        for langs, source, reference in served:
            if not source or not (reference or sources_alone):
                counts[EMPTY] += 1
            else:
                yield Example(langs, source, reference, position, texts.line)


def normalise_text(text: str) -> str:
    """The text as texts are compared: in Unicode's NFC, its white space as single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).split())
