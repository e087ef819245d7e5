"""Hold what a data file says: segments with their references, and what was left out of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from workers.languages.codes import split_pair

NO_REFERENCE = "no reference"


@dataclass(frozen=True, slots=True)
class Segment:
    """One source text with its human translations."""

    id: str
    """Unique within its data set and stable: the same with and without skipped rows."""
    langs: str
    """The normalised language pair, "en-de" or "en-pt_BR"."""
    source: str
    """The source text."""
    references: tuple[str, ...]
    """At least one text; no text is empty."""
    doc_id: str
    """Id of the document; the segment's own id where the format knows no documents."""
    domain: str
    """Domain of the text; empty where unknown."""
    human_score: float | None = None
    """Mean human score of the systems' translations (0 to 100, higher is better) or the difficulty that the file gives;
    None: unscored."""

    @property
    def source_language(self) -> str:
        """The code of the source language, such as "en"."""
        return split_pair(self.langs)[0]

    @property
    def target_language(self) -> str:
        """The code of the target language, such as "de" or "pt_BR"."""
        return split_pair(self.langs)[1]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was passed over: its line (1-based), why, and the value at fault, shortened."""

    line: int
    reason: str
    value: str


@dataclass(frozen=True, slots=True)
class DataSet:
    """The segments of one file or several, in a deterministic order, with all that was not taken from them."""

    name: str
    """The file's name without its folder; of several, the first one's and how many more there are."""
    format: str
    """Registry key of the format that was recognised, of several those of all."""
    segments: tuple[Segment, ...]
    """The segments."""
    digest: str
    """SHA-256 of the segments (see `segments_digest`)."""
    bad_rows: tuple[BadRow, ...] = ()
    """Rows that can't be read; filled only where the caller wants them skipped."""
    left_out: tuple[tuple[str, int], ...] = ()
    """Rows that the format itself says not to use, and rows of other pairs than the caller's: (reason, count),
    sorted."""

    @property
    def pairs(self) -> tuple[str, ...]:
        """The language pairs that occur, sorted."""
        return tuple(sorted({segment.langs for segment in self.segments}))

    @property
    def without_reference(self) -> int:
        """The number of segments left out because the file has no reference for them."""
        return dict(self.left_out).get(NO_REFERENCE, 0)


def name_files(files: Sequence[str | Path]) -> str:
    """The name of a file without its folder; of several, the first one's and how many more there are."""
    first = Path(files[0]).name
    return first if len(files) == 1 else f"{first} and {len(files) - 1} more"


def both_directions_id(segment: Segment) -> str:
    """The document of a row without a name of its own, where the row is read in both directions: the same in both."""
    number = segment.id.rpartition(":")[2]
    return f"{'-'.join(sorted(split_pair(segment.langs)))}:{number}"


def segments_digest(segments: Iterable[Segment]) -> str:
    """The SHA-256 (64 hex digits) of the segments' content and order.

    It is taken over canonical JSON: an array of objects, keys sorted, no spaces, UTF-8. The file's name, format,
    compression and line ends do not enter.
    """
    names = [field.name for field in fields(Segment)]
    rows = [{name: getattr(segment, name) for name in names} for segment in segments]
    canonical = json.dumps(rows, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
