"""The files that `main.py` writes of one measured candidate: its translations, their scores and a summary."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces.errors import UserError
from workers.reading.segments import Segment
from workers.runtime.atomic_files import write_through_draft, write_whole


@dataclass(frozen=True, slots=True)
class Line:
    """One segment's result: its hypothesis, scores by metric, bin of human score, and the checks that it failed."""

    segment: Segment
    text: str
    truncated: bool
    scores: dict[str, float]
    bin: str
    failed: tuple[str, ...]


PREDICTIONS, HYPOTHESES, ROWS, SUMMARY = "predictions.jsonl", "hypotheses.txt", "rows.csv", "summary.json"
FILES = (PREDICTIONS, HYPOTHESES, ROWS, SUMMARY)


def refuse_unwritable(outdir: Path, overwrite: bool = False) -> None:
    """Raise UserError where `write_files` could not write, or, unless told to, would write over an earlier candidate's
    files; with nothing made."""
    there = next(path for path in (outdir, *outdir.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UserError(f"{there} exists and is not a folder; name another with --outdir")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{there} can't be written to; name another folder with --outdir")
    earlier = [name for name in FILES if os.path.lexists(outdir / name)]
    if earlier and not overwrite:
        raise UserError(
            f"{outdir} holds {', '.join(earlier)} of an earlier candidate; name another folder with --outdir, or write "
            "over them with --overwrite"
        )


def write_files(outdir: Path, summary: dict[str, Any], lines: Sequence[Line]) -> None:
    """Write the four files; lines: one a segment, in the data set's order."""
    outdir.mkdir(parents=True, exist_ok=True)
    with write_through_draft(outdir / HYPOTHESES) as draft, draft.open("w", encoding="utf-8") as stream:
        stream.writelines(f"{one_line(line.text)}\n" for line in lines)
    with write_through_draft(outdir / PREDICTIONS) as draft, draft.open("w", encoding="utf-8") as stream:
        for line in lines:
            stream.write(json.dumps(_prediction(line), ensure_ascii=False) + "\n")
    _write_rows(outdir / ROWS, lines)
    write_whole(outdir / SUMMARY, json.dumps(summary, ensure_ascii=False, indent=2) + "\n")


def one_line(text: str) -> str:
    """The text on one line: a space stands for each line break, of Unicode's kinds too, that it holds."""
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


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
    with write_through_draft(path) as draft, draft.open("w", encoding="utf-8", newline="") as stream:
        names = list(lines[0].scores) if lines else []
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "langs", "domain", "doc_id", "score", "bin", "truncated", *names, "failed_checks"])
        for line in lines:
            segment = line.segment
            score = "" if segment.human_score is None else segment.human_score
            place = [segment.id, segment.langs, segment.domain, segment.doc_id, score, line.bin, int(line.truncated)]
            writer.writerow([*place, *line.scores.values(), " ".join(line.failed)])
