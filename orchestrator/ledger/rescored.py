"""`rescored.json`: metrics that reached a run's stored hypotheses after its trials had ended.

metric -> `DIGEST.SPLIT` -> pair -> score. The ledger stays as it is; where it has a metric, the ledger's score counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from orchestrator.ledger.records import TrialRecord
from search_spaces.errors import StudyError
from search_spaces.outcome import Score
from workers.runtime.atomic_files import write_whole

RESCORED = "rescored.json"

Rescored = dict[str, dict[str, dict[str, Score]]]


def trial_key(record: TrialRecord) -> str:
    """What a trial's scores are kept under: `DIGEST.SPLIT`, as its hypotheses file is named."""
    return ".".join(record.key)


def read_rescored(folder: Path) -> Rescored:
    """What was scored again so far, {} where nothing was; raises StudyError for a damaged file."""
    path = folder / RESCORED
    if not path.is_file():
        return {}
    try:
        return {
            metric: {
                key: {pair: Score(**score) for pair, score in by_pair.items()} for key, by_pair in by_trial.items()
            }
            for metric, by_trial in json.loads(path.read_text(encoding="utf-8")).items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{path} is damaged ({error}); delete it, and write it anew with `mtpareto rescore {folder}`"
        ) from error


def write_rescored(folder: Path, rescored: Rescored) -> Path:
    """Put the file in place, whole or not at all, and on disk before this returns."""
    path = folder / RESCORED
    record = {
        metric: {
            key: {pair: asdict(score) for pair, score in by_pair.items()} for key, by_pair in sorted(by_trial.items())
        }
        for metric, by_trial in rescored.items()
    }
    write_whole(path, json.dumps(record, ensure_ascii=False, allow_nan=False, indent=1) + "\n", durable=True)
    return path


def with_rescored(records: Sequence[TrialRecord], rescored: Rescored) -> list[TrialRecord]:
    """The records, each measurement with the metrics that it has been given since."""
    return [_with(record, _of(record, rescored)) for record in records]


def _of(record: TrialRecord, rescored: Rescored) -> Mapping[str, Mapping[str, Score]]:
    key = trial_key(record)
    return {metric: by_trial[key] for metric, by_trial in rescored.items() if key in by_trial}


def _with(record: TrialRecord, scores: Mapping[str, Mapping[str, Score]]) -> TrialRecord:
    measurement = record.measurement
    if measurement is None or not scores:
        return record
    new = {metric: by_pair for metric, by_pair in scores.items() if metric not in measurement.scores}
    return replace(record, outcome=replace(measurement, scores={**measurement.scores, **new}))
