"""How a study asked its models for translations, written beside each that was kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from orchestrator.ledger.records import Ledger, TrialRecord
from orchestrator.study.calibration import read_calibration
from orchestrator.study.spec import StudySpec
from workers.reading.segments import DataSet, Segment
from workers.translation.prompt_file import PROMPT_FILE, Asking, examples_of, write_asking


def write_prompts(spec: StudySpec, ledger: Ledger, kept: Mapping[int, Path], data: Mapping[str, DataSet]) -> None:
    """Write `prompt.json` into the folder of each kept model that has none. kept: trial number -> folder."""
    records = {record.number: record for record in ledger.on("dev")}
    for number, folder in kept.items():
        if not (folder / PROMPT_FILE).is_file():
            write_asking(folder, asking_in(spec, ledger, records[number], lambda: data))


def asking_in(
    spec: StudySpec, ledger: Ledger, record: TrialRecord, data: Callable[[], Mapping[str, DataSet]]
) -> Asking:
    """How the study asked a trial's model: by the prompt that its measurement names, and with the study's decoding.

    data: reads the study's data; called only where a few-shot prompt needs its examples.
    """
    measured = record.measurement
    pairs = tuple(sorted(next(iter(measured.scores.values())))) if measured else ()
    family = (measured.conditions.get("prompt") if measured else None) or spec.prompt
    examples: tuple[Segment, ...] = ()
    if family == "few-shot":
        calibration = read_calibration(spec, data(), ledger.header)
        examples = examples_of(calibration.pairs.segments, pairs)
    return Asking(replace(spec.decoding, prompt=family), pairs, dict(spec.languages), examples)
