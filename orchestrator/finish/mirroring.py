"""Keeps MLflow in step with the ledger from a thread of its own; an MLflow that is down can't stop or fail a search.

Hooks of Tune only put a word in the queue, which can't raise. What could not be written stays due, and is written at
the end, by the next resume, or by `mtpareto mirror`.
"""

from __future__ import annotations

import logging
import math
import queue
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from mlflow_tracking.mirror import Mirror
from mlflow_tracking.trial_fields import MirroredTrial, metric_key
from orchestrator.ledger.records import Ledger, TrialRecord, read_ledger
from orchestrator.results.points import Point, Results
from orchestrator.results.standing import race_text
from search_spaces.errors import StudyError
from workers.plan.evaluation_plan import PROFILE_SPLIT, SPEED_SPLIT

log = logging.getLogger(__name__)

Connect = Callable[[], Mirror]


def mirror_ledger(mirror: Mirror, folder: Path, ledger: Ledger, done: set[str]) -> None:
    """Write the study and every trial that is not in `done` yet; adds each to `done` as it is written."""
    spec = dict(ledger.header["spec"])
    conditions = {f"condition.{key}": str(value) for key, value in ledger.header["conditions"].items()}
    mirror.study(folder.name, spec, {"folder": str(folder), **conditions})
    # A speed has no run of its own: it stands beside its point's scores. Nor has a probe, which scores nothing.
    others = (SPEED_SPLIT, PROFILE_SPLIT)
    splits = dict.fromkeys(record.split for record in ledger.trials if record.split not in others)
    for record in (record for split in splits for record in ledger.on(split)):
        trial = mirrored_trial(record)
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
    held_out: Results | None = None,
) -> None:
    """Bring the whole study up to date: each trial with its standing, a model a kept artefact, the report.

    held_out: what the same candidates have on held-out data.
    """
    mirror_ledger(mirror, folder, ledger, set())
    for point in results.points:
        trial = mirrored_trial(point.record, _standing(point), _words(point))
        run_id = mirror.trial(trial)
        if point.record.number in kept:
            mirror.model(trial, run_id, kept[point.record.number])
    for dropped in results.dropped:
        trial = mirrored_trial(dropped.record, {"ratio": dropped.ratio, "on_frontier": 0.0}, {"race": dropped.why})
        run_id = mirror.trial(trial)
        if dropped.record.number in kept:
            mirror.model(trial, run_id, kept[dropped.record.number])
    counts = {
        "trials": float(len(results.points) + len(results.failures) + len(results.dropped)),
        "failures": float(len(results.failures)),
        "dropped": float(len(results.dropped)),
        "kept_off": float(len(results.kept_off)),
        "frontier_points": float(len(results.frontier)),
    }
    mirror.finish(status, {**counts, **_headlines(results, held_out)}, files)


def _headlines(results: Results, held_out: Results | None) -> dict[str, float]:
    """What a list of studies shows: the quality of the baseline, of the best and of the smallest point of the frontier,
    the held-out one as `test_…`, and how many times smaller the smallest is."""
    if not results.frontier:
        return {}
    on_test = {point.record.candidate.digest: point for point in held_out.points} if held_out else {}
    best = max(results.frontier, key=lambda point: point.quality)
    shown = {"baseline": results.baseline, "best": best, "smallest": results.frontier[-1]}
    found = {"smallest.ratio": results.frontier[-1].ratio}
    for name, point in shown.items():
        if point is None:
            continue
        found[f"{name}.{metric_key(results.metric)}"] = point.quality
        if (judged := on_test.get(point.record.candidate.digest)) is not None:
            found[f"{name}.{metric_key(results.metric, 'test')}"] = judged.quality
    return {name: value for name, value in found.items() if math.isfinite(value)}


def mirrored_trial(
    record: TrialRecord, more: Mapping[str, float] | None = None, words: Mapping[str, str] | None = None
) -> MirroredTrial:
    """A ledger record as the mirror takes it. more, words: what the whole study adds, as metrics and as tags."""
    measurement = record.measurement
    race = {"race": race_text(measurement.race)} if measurement and measurement.race else {}
    return MirroredTrial(
        number=record.number,
        candidate=record.candidate,
        split=record.split,
        outcome=record.outcome,
        started=record.started,
        ended=record.ended,
        worker=record.worker,
        attempt=record.attempt,
        more={**expected_of(record), **(more or {})},
        words={**race, **(words or {})},
    )


def expected_of(record: TrialRecord) -> dict[str, float]:
    """What was expected of a trial that a profile chose, as metrics; empty for others."""
    return {f"expected_{name}": value for name, value in record.why.items()}


def _standing(point: Point) -> dict[str, float]:
    standing = {
        "ratio": point.ratio,
        "on_frontier": float(point.on_frontier),
        "kept_off": float(bool(point.kept_off)),
        "tie": float(point.tie is not None),
    }
    intervals = {**point.beside} if point.interval is None else {point.metric: point.interval, **point.beside}
    for metric, interval in intervals.items():
        standing |= {f"{metric}.low": interval.low, f"{metric}.high": interval.high}
    standing |= {f"speed.{name}": value for name, value in point.speeds.items()}
    return {name: value for name, value in standing.items() if math.isfinite(value)}


def _words(point: Point) -> dict[str, str]:
    """Why the point is kept off the frontier, what it is not told apart from and what beats it; empty words where that
    is not so.

    An empty word takes the place of one that an earlier mirroring wrote.
    """
    return {
        "kept_off": "; ".join(point.kept_off),
        "tie": _trial_text(point.tie),
        "beaten_by": _trial_text(point.beaten_by),
    }


def _trial_text(record: TrialRecord | None) -> str:
    return f"trial {record.number}: {record.candidate.describe() or 'baseline'}" if record else ""


class MirrorThread:
    """Mirrors new ledger lines while a search runs."""

    def __init__(self, connect: Connect, folder: Path) -> None:
        self._connect = connect
        self._folder = folder
        self._words: queue.SimpleQueue[bool] = queue.SimpleQueue()
        # Imported here, not in the thread: Ray Tune imports MLflow too, and two threads that do so at once can end in
        # each other's locks.
        self._troubles = mlflow_troubles()
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
        mirror: Mirror | None = None
        done: set[str] = set()
        warned = False
        while self._words.get():
            try:
                mirror = mirror or self._connect()
                mirror_ledger(mirror, self._folder, read_ledger(self._folder), done)
            except StudyError as error:
                # The ledger is gone or damaged, which stops the search itself.
                log.warning("MLflow is not written to any more: %s", error)
                return
            except self._troubles as error:
                if not warned:
                    log.warning(
                        "MLflow can't be written to (%s); the search continues, and the ledger keeps everything",
                        spell_trouble(error),
                    )
                    warned = True


def spell_trouble(error: Exception) -> str:
    """MLflow's error in a line: of one from its database what the database said, without the statement."""
    text = str(error)
    said = re.search(r"^\((?:\w+\.)+\w+\) (.+)$", text, re.MULTILINE)
    return said.group(1) if said else text.partition("\n")[0]


def mlflow_troubles() -> tuple[type[Exception], ...]:
    """What MLflow raises where its store can't be reached, written to, or is being made by another process."""
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, CommandError, OSError
