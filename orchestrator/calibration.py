"""What a study calibrates on: read, kept apart from what selects and what judges, and known again on resume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.study import SHIPPED_CALIBRATION, StudySpec
from search_spaces.candidate import digest_of
from search_spaces.errors import StudyError
from workers.reading import DataSet, read_dataset
from workers.reading.errors import DataError, RowFault
from workers.reading.files import decode, read_content, split_lines
from workers.reading.segments import segments_digest


@dataclass(frozen=True, slots=True)
class Calibration:
    """pairs: for methods that look at activations. text: lines to take statistics over instead, often none."""

    pairs: DataSet
    text: tuple[str, ...] = ()

    def identity(self) -> dict[str, str]:
        """What decides the artefacts: the content of both."""
        return {"pairs": self.pairs.digest, "text": digest_of(list(self.text))}


def read_calibration(spec: StudySpec, data: Mapping[str, DataSet]) -> Calibration:
    """The study's calibration pairs and text; raises DataError for a bad file, StudyError where there are no pairs or
    one of them is in the study's data."""
    file = spec.calibration or (str(SHIPPED_CALIBRATION) if SHIPPED_CALIBRATION.is_file() else None)
    if file is None:
        raise StudyError(
            f"the space {spec.space} has methods that look at activations, and there are no calibration pairs; name a "
            "file of source and reference pairs in the study's languages with --calibration"
        )
    whole = read_dataset(file)
    found = Calibration(
        _in_study_languages(whole, data),
        read_text(Path(spec.calibration_text)) if spec.calibration_text else (),
    )
    for split, dataset in data.items():
        _refuse_shared_pairs(whole, split, dataset)
        _refuse_shared_lines(found.text, split, dataset)
    return found


def _in_study_languages(pairs: DataSet, data: Mapping[str, DataSet]) -> DataSet:
    """The pairs in the language pairs of the study's data; all of them where none is."""
    wanted = {segment.langs for dataset in data.values() for segment in dataset.segments}
    kept = tuple(pair for pair in pairs.segments if pair.langs in wanted)
    if not kept or len(kept) == len(pairs.segments):
        return pairs
    return replace(pairs, segments=kept, digest=segments_digest(kept))


def read_text(path: Path) -> tuple[str, ...]:
    """The lines of a UTF-8 text file, plain or gzip, without blank ones; raises DataError for a bad file."""
    lines: list[str] = []
    for number, raw in enumerate(split_lines(read_content(path)), start=1):
        try:
            line = decode(raw).strip()
        except RowFault as fault:
            raise DataError(path, number, fault.value, fault.rule, "Save the file as UTF-8.") from None
        if line:
            lines.append(line)
    return tuple(lines)


def refuse_changed_calibration(header: Mapping[str, Any], now: Calibration, folder: Path) -> None:
    """Raise StudyError when a study goes on with another calibration than it began with."""
    if header.get("calibration", now.identity()) != now.identity():
        raise StudyError(
            f"the calibration data of the study in {folder} has changed since it began; put it back, or begin a new "
            "study"
        )


def _refuse_shared_pairs(pairs: DataSet, split: str, dataset: DataSet) -> None:
    """A source counts whatever the language pair: a translation of it into another language gives its content away."""
    sources = {segment.source for segment in dataset.segments}
    for pair in pairs.segments:
        if pair.source in sources:
            raise StudyError(
                f"{pair.source[:80]!r} ({pair.langs}) is in both the {split} and the calibration data; what a model is "
                "calibrated on must not be what it is measured on: take it out of one"
            )


def _refuse_shared_lines(lines: tuple[str, ...], split: str, dataset: DataSet) -> None:
    texts = {text.strip() for segment in dataset.segments for text in (segment.source, *segment.references)}
    for number, line in enumerate(lines, start=1):
        if line in texts:
            raise StudyError(
                f"{line[:80]!r} is in both the {split} data and calibration_text (its line {number}, blank ones not "
                "counted); what a model is calibrated on must not be what it is measured on: take it out of one"
            )
