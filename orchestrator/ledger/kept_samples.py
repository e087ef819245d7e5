"""What was worked out of a trial's translations once, kept in the run's folder: a metric's statistics of each segment,
and its bootstrap samples. A table of 60 trials is a second's work then, not a minute's. The folder may be deleted."""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import sacrebleu

from orchestrator.ledger.records import TrialRecord, hypotheses_file, read_hypotheses
from search_spaces.candidate import digest_of
from workers.plan.code_version import code_version
from workers.reading.segments import DataSet
from workers.runtime.atomic_files import write_through_draft
from workers.scoring.metrics import BOOTSTRAP_SAMPLES, Statistics, corpus_statistics

SAMPLES = "samples"
log = logging.getLogger(__name__)

Samples = np.ndarray[Any, np.dtype[np.float64]]


def samples_file(folder: Path, record: TrialRecord, dataset: DataSet, metric: str, seed: int) -> Path:
    """Where a trial's samples lie: named by all that they depend on, so that what is there came of translations that
    were whole. Raises StudyError for a trial without a file of them."""
    about = _about(folder, record, dataset, metric)
    about |= {"seed": seed, "samples": BOOTSTRAP_SAMPLES}
    return folder / SAMPLES / f"{digest_of(about)}.npz"


def statistics_of(folder: Path, record: TrialRecord, dataset: DataSet, metric: str) -> Statistics:
    """The `corpus_statistics` of a trial's translations, worked out where they were not kept; they are then.

    Raises StudyError for a trial whose translations are not there.
    """
    path = folder / SAMPLES / f"{digest_of(_about(folder, record, dataset, metric))}.statistics.npz"
    if (known := read_samples(path)) is not None:
        return dict(known)
    found = corpus_statistics(metric, dataset.segments, read_hypotheses(folder, record))
    # Counts of n-grams take two bytes, or one.
    keep_samples(path, {pair: _narrowed(rows) for pair, rows in found.items()})
    return found


def _about(folder: Path, record: TrialRecord, dataset: DataSet, metric: str) -> dict[str, Any]:
    return {
        "hypotheses": hashlib.sha256(hypotheses_file(folder, record).read_bytes()).hexdigest(),
        "segments": None if record.measurement is None else record.measurement.segments,
        "data": dataset.digest,
        "metric": metric,
        "versions": [sacrebleu.__version__, np.__version__, code_version(["workers.scoring.metrics"])],
    }


def _narrowed(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same whole numbers in as few bytes as hold them; others as they are."""
    counts = rows.dtype.kind in "iu" and rows.size and rows.min() >= 0
    return rows.astype(np.min_scalar_type(int(rows.max()))) if counts else rows


def read_samples(path: Path) -> Mapping[str, np.ndarray[Any, Any]] | None:
    """Language pair -> the metric's corpus score in each sample, or its statistics; None where there are none, or none
    that are whole."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            return {pair: kept[pair] for pair in kept.files}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        log.info("%s is drawn anew: %s", path, error)
        return None


def keep_samples(path: Path, samples: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Write them, whole or not at all; a run that can't be written in is read all the same."""
    arrays: dict[str, Any] = dict(samples)
    try:
        path.parent.mkdir(exist_ok=True)
        with write_through_draft(path) as draft, draft.open("wb") as file:
            np.savez(file, **arrays)
    except OSError as error:
        log.info("%s is not kept: %s", path, error)
