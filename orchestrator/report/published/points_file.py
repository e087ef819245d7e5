"""Reads published points: a CSV with a line each, whose errors name file, line and column."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestrator.number_format import METRIC_NAMES, read_bytes
from search_spaces.errors import StudyError
from workers.runtime.atomic_files import write_whole
from workers.scoring.metrics import NEURAL_METRICS

# The copy in a run's folder, so that the pages can be written again wherever the folder goes.
POINTS_FILE = "published.csv"
COLUMNS = ("name", "model", "ratio", "bytes", "kept_percent", "score", "metric", "source")
ALWAYS = ("name", "metric", "source")
ONE_OF = (("ratio", "bytes"), ("kept_percent", "score"))
LONGEST_NAME = 60


class _Rows(Protocol):
    """What csv.reader gives."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...


@dataclass(frozen=True, slots=True)
class PublishedPoint:
    """A published result; a model may have one in each of several metrics."""

    name: str
    """What it is called."""
    metric: str
    """The metric that it was published in: a study's name for it where it has one, such as "chrf"."""
    source: str
    """Where it was published."""
    model: str = ""
    """What was compressed; empty where the name says it."""
    ratio: float | None = None
    """How many times smaller it is than its own uncompressed model."""
    bytes: int | None = None
    """Its size on disk."""
    kept_percent: float | None = None
    """The quality that it keeps, in percent of its own uncompressed model's."""
    score: float | None = None
    """Its quality, in the metric's points."""

    @property
    def label(self) -> str:
        """What its mark is called."""
        return f"{self.model}, {self.name}" if self.model else self.name


def read_published_points(path: Path) -> tuple[PublishedPoint, ...]:
    """The points of a CSV with a header; raises StudyError, which names file, line and column, for what can't be read.

    Each line has `name`, `metric` and `source`, `ratio` or `bytes`, and `kept_percent` or `score`; it may have `model`.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            return _points(path, rows)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise StudyError(f"the published points {path} can't be read: {why}") from error


def put_published_points(path: Path, folder: Path) -> None:
    """Copy a file of points into a run's folder, once it is read; raises StudyError where it can't be."""
    read_published_points(path)
    write_whole(folder / POINTS_FILE, path.read_text(encoding="utf-8-sig"), durable=True)


def points_of_run(folder: Path) -> tuple[PublishedPoint, ...]:
    """The points that a run's folder has; none where it has no such file."""
    path = folder / POINTS_FILE
    return read_published_points(path) if path.is_file() else ()


def _points(path: Path, rows: _Rows) -> tuple[PublishedPoint, ...]:
    lines: dict[tuple[str, str], int] = {}
    found: list[PublishedPoint] = []
    header: list[str] | None = None
    try:
        for row in rows:
            where = f"{path}, line {rows.line_num}"
            if not any(cell.strip() for cell in row):
                continue
            if header is None:
                header = _header(where, row)
                continue
            if len(row) != len(header):
                raise StudyError(
                    f"{where} has {len(row)} cells, and the header {len(header)}; put quotes around what has commas"
                )
            point = _point(where, dict(zip(header, (cell.strip() for cell in row), strict=True)))
            key = point.label, point.metric
            if key in lines:
                raise StudyError(
                    f"{where}, column name: {point.label!r} stands in line {lines[key]} too, in the same metric; "
                    "name it apart"
                )
            lines[key] = rows.line_num
            found.append(point)
    except csv.Error as error:
        raise StudyError(f"{path}, line {rows.line_num} is not CSV: {error}") from error
    if not found:
        raise StudyError(f"{path} holds no points; it needs the header {','.join(COLUMNS)} and a line a point")
    return tuple(found)


def _header(where: str, row: Sequence[str]) -> list[str]:
    names = [cell.strip().lower() for cell in row]
    for name in names:
        if name not in COLUMNS:
            raise StudyError(f"{where}, column {name!r} is unknown; the columns are {', '.join(COLUMNS)}")
        if names.count(name) > 1:
            raise StudyError(f"{where}, column {name!r} stands twice; leave one out")
    for name in ALWAYS:
        if name not in names:
            raise StudyError(f"{where} has no column {name!r}; each point needs {', '.join(ALWAYS)}")
    for one, other in ONE_OF:
        if one not in names and other not in names:
            raise StudyError(f"{where} has no column {one!r} and no column {other!r}; each point needs one of them")
    return names


def _point(where: str, row: Mapping[str, str]) -> PublishedPoint:
    for name in ALWAYS:
        if not row[name]:
            raise StudyError(f"{where}, column {name} is empty; each point needs one")
    for name in ("name", "model"):
        if len(row.get(name, "")) > LONGEST_NAME:
            raise StudyError(f"{where}, column {name} has {len(row[name])} characters; a picture takes {LONGEST_NAME}")
    for one, other in ONE_OF:
        if not row.get(one) and not row.get(other):
            raise StudyError(f"{where}, columns {one} and {other} are empty; a point needs one of them")
    metric = _metric(row["metric"])
    score = _number(where, "score", row, "a score in the metric's points")
    if score is not None and metric in NEURAL_METRICS and abs(score) <= 1.5:
        raise StudyError(
            f"{where}, column score: {score:g} seems to be a {METRIC_NAMES[metric]} of 0 to 1; here it counts in "
            f"points, so write {100 * score:g}"
        )
    return PublishedPoint(
        name=row["name"],
        metric=metric,
        source=row["source"],
        model=row.get("model", ""),
        ratio=_number(where, "ratio", row, "how many times smaller, such as 2.6", above=0.0),
        bytes=_bytes(where, row),
        kept_percent=_number(where, "kept_percent", row, "percent, such as 98.5", above=0.0, sign="%"),
        score=score,
    )


def _metric(written: str) -> str:
    """A study's name of the metric, however it is spelt; as it is written where a study has none."""
    names = {key: key for key in METRIC_NAMES} | {name.lower(): key for key, name in METRIC_NAMES.items()}
    return names.get(written.lower(), written)


def _number(
    where: str, column: str, row: Mapping[str, str], rule: str, above: float | None = None, sign: str = ""
) -> float | None:
    text = row.get(column, "")
    if not text:
        return None
    try:
        value = float(text.removesuffix(sign).strip() if sign else text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (above is not None and value <= above):
        raise StudyError(f"{where}, column {column} is {text!r}; it must be {rule}")
    return value


def _bytes(where: str, row: Mapping[str, str]) -> int | None:
    text = row.get("bytes", "")
    if not text:
        return None
    size = read_bytes(text)
    if size is None:
        raise StudyError(f"{where}, column bytes is {text!r}; it must be a size such as 3.6GB or 3600000000")
    return size
