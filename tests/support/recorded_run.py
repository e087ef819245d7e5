"""A run's folder as a search leaves it, of candidates whose hypotheses are cut references: for tests of its results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.ledger.records import LedgerWriter, create_ledger
from search_spaces.methods.quantizers import RTN
from search_spaces.methods.registry import Step
from search_spaces.outcome import Footprint, Measurement, Race, Score
from tests.support.examples import BASE, trial
from workers.plan.evaluation_plan import data_split
from workers.reading.dataset import read_dataset
from workers.reading.segments import DataSet, Segment
from workers.scoring.metrics import lines_by_pair, scores_by_pair

WORDS = ("Hund", "Garten", "läuft", "Kinder", "spielen", "Wasser", "alte", "Mann", "liest", "Buch", "rote", "Tür")


@dataclass(frozen=True, slots=True)
class Made:
    """A candidate's trial. cut: the share of each hypothesis that is missing; of more segments where `cuts` says so.

    chain: its steps, where they are not those of `bits`. comet: its segments' scores, times 100. race: how a race ended
    it, after that many segments.
    """

    size: int
    cut: float = 0.0
    bits: int | None = 8
    cuts: Mapping[int, float] = field(default_factory=dict)
    sanity: Mapping[str, float] = field(default_factory=dict)
    comet: Sequence[float] | None = None
    race: Race | None = None
    metrics: tuple[str, ...] = ("chrf", "bleu")
    symmetric: bool = True
    split: str = "dev"
    notes: tuple[str, ...] = ()
    reference: bool = False
    chain: tuple[Step, ...] | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        if self.chain is not None:
            return self.chain
        return () if self.bits is None else (RTN(bits=self.bits, symmetric=self.symmetric),)


def write_data(path: Path, segments: int = 24, seed: int = 0) -> DataSet:
    """Segments of two pairs, each pair's in documents of two, as a data file; read as a search reads it."""
    rows = [
        {
            "src": f"Sentence {seed} {number} of a story.",
            "ref": " ".join(WORDS[(number * 5 + seed + step * (number % 3 + 1)) % len(WORDS)] for step in range(9))
            + ".",
            "langs": "en-de" if number % 2 else "en-cs",
            "doc_id": f"doc{number // 4}",
        }
        for number in range(segments)
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return read_dataset(str(path))


def write_run(folder: Path, data: Mapping[str, DataSet], trials: Sequence[Made], **spec: Any) -> Path:
    """A finished run of these trials, numbered in their order; `spec` adds to what its study was asked."""
    asked = {"out": str(folder), "data": str(folder.parent / "dev.jsonl"), "address": None, **spec}
    header = {
        "spec": asked,
        "base": {"name": BASE.name, "revision": BASE.revision, "bytes": trials[0].size if trials else 1},
        "data": {split: dataset.digest for split, dataset in data.items()},
        "conditions": {},
    }
    create_ledger(folder, header)
    writer = LedgerWriter(str(folder))
    for number, made in enumerate(trials):
        measurement, lines = measured(data[data_split(made.split)], made)
        ended = trial(measurement, made.steps, number, made.split)
        writer.append({**ended, "reference": True} if made.reference else ended, lines)
    writer.end(True)
    return folder


def measured(dataset: DataSet, made: Made) -> tuple[Measurement, list[dict[str, Any]]]:
    """A trial's measurement, by the scores that its hypotheses really have, and the lines of its hypotheses file."""
    segments = dataset.segments[: made.race.segments] if made.race else dataset.segments
    texts = [cut(segment, made.cuts.get(line, made.cut)) for line, segment in enumerate(segments)]
    scores = scores_by_pair(made.metrics, segments, texts)
    lines: list[dict[str, Any]] = [
        {"id": segment.id, "text": text, "tokens": 9, "truncated": False, "scores": {}}
        for segment, text in zip(segments, texts, strict=True)
    ]
    if made.comet is not None:
        scores["comet"] = {
            pair: Score(sum(made.comet[line] for line in at) / len(at), "comet:2.2.7")
            for pair, at in lines_by_pair(segments).items()
        }
        lines = [{**line, "scores": {"comet": value}} for line, value in zip(lines, made.comet, strict=False)]
    measurement = Measurement(
        scores=scores,
        footprint=Footprint(made.size, 10, 1.0),
        seconds={"translate": 1.5},
        segments=len(segments),
        tokens=30,
    )
    return replace(measurement, sanity=made.sanity, race=made.race, notes=made.notes), lines


def cut(segment: Segment, share: float) -> str:
    """The reference without a share of its characters at the end."""
    reference = segment.references[0]
    return reference[: round(len(reference) * (1 - share))]
