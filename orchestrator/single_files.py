"""The files that `main.py` writes of one measured candidate: predictions.jsonl, rows.csv and summary.json."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces.errors import UserError
from workers.reading import Segment


@dataclass(frozen=True, slots=True)
class Line:
    """One segment's result: its hypothesis, scores by metric, bin of human score, and the checks that it failed."""

    segment: Segment
    text: str
    truncated: bool
    scores: dict[str, float]
    bin: str
    failed: tuple[str, ...]


def refuse_unwritable(outdir: Path) -> None:
    """Raise UserError where `write_files` could not write, with nothing made."""
    there = next(path for path in (outdir, *outdir.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UserError(f"{there} is there and no folder; name another with --outdir")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{there} can't be written to; name another folder with --outdir")


def write_files(outdir: Path, summary: dict[str, Any], lines: Sequence[Line]) -> None:
    """Write the three files; lines: one a segment, in the data set's order."""
    outdir.mkdir(parents=True, exist_ok=True)
    with (outdir / "predictions.jsonl").open("w", encoding="utf-8") as stream:
        for line in lines:
            stream.write(json.dumps(_prediction(line), ensure_ascii=False) + "\n")
    _write_rows(outdir / "rows.csv", lines)
    (outdir / "summary.json").write_text(json.dumps(summary, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _prediction(line: Line) -> dict[str, Any]:
    segment, references = line.segment, line.segment.references
    return {
        "id": segment.id,
        "langs": segment.langs,
        "src": segment.source,
        "ref": references[0] if len(references) == 1 else list(references),
        "pred": line.text,
        "domain": segment.domain,
        "doc_id": segment.doc_id,
        "metrics": line.scores,
        "truncated": line.truncated,
        "failed_checks": list(line.failed),
    }


def _write_rows(path: Path, lines: Sequence[Line]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        names = list(lines[0].scores) if lines else []
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "langs", "domain", "doc_id", "score", "bin", "truncated", *names, "failed_checks"])
        for line in lines:
            segment = line.segment
            score = "" if segment.human_score is None else segment.human_score
            place = [segment.id, segment.langs, segment.domain, segment.doc_id, score, line.bin, int(line.truncated)]
            writer.writerow([*place, *line.scores.values(), " ".join(line.failed)])
