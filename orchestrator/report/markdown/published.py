"""Published points to set beside a study's own: a table of other models, by other metrics."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from search_spaces.errors import StudyError

COLUMNS = ("name", "model", "ratio", "kept_percent", "metric", "source")


@dataclass(frozen=True, slots=True)
class PublishedPoint:
    """A compressed model of somebody else's."""

    name: str
    """What was done."""
    model: str
    """The model that it was done to."""
    ratio: float
    """How many times smaller than the uncompressed model."""
    kept_percent: float
    """What it keeps of that model's score."""
    metric: str
    """The score, with the direction where it is of one."""
    source: str
    """Where it is published."""


def read_published(path: Path) -> tuple[PublishedPoint, ...]:
    """The points of a CSV file with the columns of `COLUMNS`; raises StudyError, with the file and the line, for one
    that has others, or a number that is none."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            names = reader.fieldnames or []
            lacks = [name for name in COLUMNS if name not in names]
            if lacks:
                raise StudyError(f"{path} has no column {lacks[0]!r}; published points have {', '.join(COLUMNS)}")
            return tuple(_point(path, reader.line_num, row) for row in reader)
    except FileNotFoundError as error:
        raise StudyError(f"{path} does not exist; --published names a CSV file with {', '.join(COLUMNS)}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StudyError(f"{path} can't be read as CSV in UTF-8: {error}") from error


def _point(path: Path, line: int, row: Mapping[str, str | None]) -> PublishedPoint:
    texts = {name: (row[name] or "").strip() for name in COLUMNS}
    for name, text in texts.items():
        if not text:
            raise StudyError(f"{path}, line {line}: {name} is empty; each published point has {', '.join(COLUMNS)}")
    numbers = {name: _number(path, line, name, texts[name]) for name in ("ratio", "kept_percent")}
    return PublishedPoint(
        texts["name"], texts["model"], numbers["ratio"], numbers["kept_percent"], texts["metric"], texts["source"]
    )


def _number(path: Path, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= 0:
        raise StudyError(f"{path}, line {line}: {name} is {text!r}; it must be a number above 0, such as 3.59")
    return value
