"""Keeps MLflow in step with the ledger from a thread of its own; an MLflow that is down can't stop or fail a search.

Hooks of Tune only put a word in the queue, which can't raise. What could not be written stays due, and is written at
the end, by the next resume, or by `mtpareto mirror`.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from pathlib import Path

from mlflow_tracking.mirror import Mirror, MirroredTrial
from orchestrator.ledger import Ledger, TrialRecord, read_ledger
from orchestrator.results import QUALITY, Point, Results

log = logging.getLogger(__name__)

Connect = Callable[[], Mirror]


def mirror_ledger(mirror: Mirror, folder: Path, ledger: Ledger, done: set[str]) -> None:
    """Write the study and every trial that is not in `done` yet; adds each to `done` as it is written."""
    spec = dict(ledger.header["spec"])
    conditions = {f"condition.{key}": str(value) for key, value in ledger.header["conditions"].items()}
    mirror.study(folder.name, spec, {"folder": str(folder), **conditions})
    for record in ledger.trials:
        trial = mirrored(record, {})
        if trial.uid not in done:
            mirror.trial(trial)
            done.add(trial.uid)


def mirror_results(
    mirror: Mirror,
    folder: Path,
    ledger: Ledger,
    results: Results,
    kept: dict[int, Path],
    status: str,
    files: list[Path],
) -> None:
    """Bring the whole study up to date: each trial with its standing, a model a kept artefact, the report."""
    mirror_ledger(mirror, folder, ledger, set())
    for point in results.points:
        trial = mirrored(point.record, _standing(point))
        run_id = mirror.trial(trial)
        if point.record.number in kept:
            mirror.model(trial, run_id, kept[point.record.number])
    counts = {
        "trials": float(len(results.points) + len(results.failures)),
        "failures": float(len(results.failures)),
        "frontier_points": float(len(results.frontier)),
    }
    mirror.finish(status, counts, files)


def mirrored(record: TrialRecord, more: dict[str, float]) -> MirroredTrial:
    """A ledger record as the mirror takes it."""
    return MirroredTrial(
        record.number, record.candidate, record.split, record.outcome,
        record.started, record.ended, record.worker, record.attempt, more,
    )  # fmt: skip


def _standing(point: Point) -> dict[str, float]:
    standing = {"ratio": point.ratio, "on_frontier": float(point.on_frontier)}
    if point.interval is not None:
        standing |= {f"{QUALITY}.low": point.interval.low, f"{QUALITY}.high": point.interval.high}
    return standing


class MirrorThread:
    """Mirrors new ledger lines while a search runs."""

    def __init__(self, connect: Connect, folder: Path) -> None:
        self._connect = connect
        self._folder = folder
        self._words: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="mlflow-mirror", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """Say that the ledger has grown; returns at once."""
        self._words.put(True)

    def stop(self, timeout: float) -> None:
        """Let it finish what it is writing, for at most `timeout` seconds."""
        self._words.put(False)
        self._thread.join(timeout)

    def _run(self) -> None:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        mirror: Mirror | None = None
        done: set[str] = set()
        warned = False
        while self._words.get():
            try:
                mirror = mirror or self._connect()
                mirror_ledger(mirror, self._folder, read_ledger(self._folder), done)
            except (MlflowException, SQLAlchemyError, OSError) as error:
                if not warned:
                    log.warning(
                        "MLflow can't be written to (%s); the search goes on, and the ledger keeps everything", error
                    )
                    warned = True
