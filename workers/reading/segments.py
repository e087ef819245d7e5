"""Hold what a data file says: segments with their references, and what was left out of them."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields

from workers.languages.codes import split_pair

NO_REFERENCE = "no reference"


@dataclass(frozen=True, slots=True)
class Segment:
    """One source text with its human translations.

    `id` is unique within its data set and stable (the same with and without skipped rows). `langs` is the
    normalised pair, "en-de" or "en-pt_BR". `references` holds at least one text, none empty. `doc_id` is the
    segment's own id where the format knows no documents; `domain` is "" where unknown. `human_score` is the
    mean human score of the systems' translations (0 to 100, higher is better) or the difficulty that the file
    gives; None: unscored.
    """

    id: str
    langs: str
    source: str
    references: tuple[str, ...]
    doc_id: str
    domain: str
    human_score: float | None = None

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
    """The segments of one file, in a deterministic order, with all that was not taken from it.

    `name` is the file's name without its folder, `format` the registry key of the format recognised, `digest`
    the SHA-256 of the segments (see `segments_digest`). `bad_rows` is filled only where the caller asked to
    skip them. `left_out` counts, by reason, what the format itself says not to use and the rows of other pairs
    than the one asked for: (reason, count), sorted.
    """

    name: str
    format: str
    segments: tuple[Segment, ...]
    digest: str
    bad_rows: tuple[BadRow, ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()

    @property
    def pairs(self) -> tuple[str, ...]:
        """The language pairs that occur, sorted."""
        return tuple(sorted({segment.langs for segment in self.segments}))

    @property
    def without_reference(self) -> int:
        """The number of segments left out because the file has no reference for them."""
        return dict(self.left_out).get(NO_REFERENCE, 0)


def segments_digest(segments: Iterable[Segment]) -> str:
    """Return the SHA-256 (64 hex digits) of the segments' content and order.

    It is taken over canonical JSON: an array of objects, keys sorted, no spaces, UTF-8. The file's name,
    format, compression and line ends do not enter.
    """
    names = [field.name for field in fields(Segment)]
    rows = [{name: getattr(segment, name) for name in names} for segment in segments]
    canonical = json.dumps(rows, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
