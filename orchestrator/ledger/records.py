"""The ledger: append-only, one JSON object a line, on disk before anything else hears of a result.

It is the truth of a study. The Optuna study, Tune's state and MLflow can each be rebuilt from it. What older versions
booked on a candidate though it was a machine's or a worker's fault is set aside: a later line of the same candidate and
split takes its place.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from orchestrator.ledger.lines import Line, StudyHeader, StudyLine
from orchestrator.ledger.names import BASELINE, LEDGER
from orchestrator.racing.referee import Referee
from search_spaces.candidate import Candidate, candidate_from_json
from search_spaces.errors import StudyError
from search_spaces.outcome import Failure, Measurement, Outcome, Race, outcome_from_json
from workers.evaluation.trial_lines import AskedTrial, BegunTrial, EndedTrial, HypothesisLine, TrialLine
from workers.failures.table import LedgerMoved, fault_in_words
from workers.plan.evaluation_plan import CONTROL_SPLITS, RACED_SPLIT
from workers.runtime.atomic_files import write_through_draft
from workers.runtime.callbacks import Doing
from workers.runtime.file_locks import hold
from workers.runtime.training_progress import Progress

LOCK = "ledger.lock"
HYPOTHESES = "hypotheses"
TORN = "ledger.torn"
SCHEMA = 1
KINDS = ("study", "trial", "begin", "end")
# A writer outlives a driver that was killed by the seconds that Ray takes to notice (1.6 seen on one machine).
WRITER_ENDS = 60.0

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One line of the ledger: a trial of one candidate on one split, and how it ended."""

    number: int
    """The trial's number; the baseline's is 0."""
    candidate: Candidate
    """What was tried."""
    split: str
    """The data that it was measured on."""
    outcome: Outcome
    """How it ended."""
    attempt: int
    """Which attempt it was, from 1."""
    choices: Mapping[str, Any]
    """What the sampler chose; empty for the baseline."""
    predicted_bytes: int
    """The size that was predicted before the trial."""
    started: str
    """When it began: ISO 8601, UTC."""
    ended: str
    """When it ended: ISO 8601, UTC."""
    worker: str
    """The worker that ran it."""
    hypotheses: str | None
    """The file of its translations, relative to the run's folder."""
    why: Mapping[str, float] = field(default_factory=dict)
    """What was expected of it, where the search chose it by its profile."""
    reference: bool = False
    """Whether the study names it as a mark to judge others by."""

    @property
    def key(self) -> Key:
        """What a result is known by: the candidate's digest and the split."""
        return self.candidate.digest, self.split

    @property
    def measurement(self) -> Measurement | None:
        return self.outcome if isinstance(self.outcome, Measurement) else None


def record_from_json(line: TrialLine) -> TrialRecord:
    """The record that a ledger line of kind `trial` holds."""
    fields: dict[str, Any] = {key: value for key, value in line.items() if key not in ("kind", "digest")}
    fields["candidate"] = candidate_from_json(line["candidate"])
    fields["outcome"] = outcome_from_json(line["outcome"])
    return TrialRecord(**fields)


@dataclass(frozen=True, slots=True)
class Ledger:
    """A ledger as read."""

    header: StudyLine
    """The study's header."""
    trials: tuple[TrialRecord, ...]
    """The trials, in the order in which they ended."""
    complete: bool = False
    """Whether the search is over."""
    asked: int | None = None
    """How many trials the newest driver was to run. None where no driver has begun yet, and in older ledgers."""
    set_aside: tuple[TrialRecord, ...] = ()
    """Failures that no candidate is to blame for and that no later line has replaced; they are not in `trials`."""
    numbers: int = 0
    """One more than the largest trial number of any line."""

    @property
    def of_all_splits(self) -> list[TrialRecord]:
        """Every trial of whatever split, each as `on` has it; the splits in the order in which they began."""
        splits = dict.fromkeys(trial.split for trial in sorted(self.trials, key=lambda trial: trial.started))
        return [trial for split in splits for trial in self.on(split)]

    def on(self, split: str) -> list[TrialRecord]:
        """The trials of one split, by trial number: on all splits the one that the candidate has on dev, whose trial it
        is scored, or timed, again of; of a control arm, which has none there, the one that it has on dev's data."""
        first = (*(split for split, data in CONTROL_SPLITS.items() if data == RACED_SPLIT), RACED_SPLIT)
        numbers = {
            trial.candidate.digest: trial.number for named in first for trial in self.trials if trial.split == named
        }
        named = (
            replace(trial, number=numbers.get(trial.candidate.digest, trial.number))
            for trial in self.trials
            if trial.split == split
        )
        return sorted(named, key=lambda trial: trial.number)


def read_ledger(folder: Path) -> Ledger:
    """The ledger of a run's folder. A last line cut short by a crash is left out; any other bad line is an error."""
    path = folder / LEDGER
    if not path.is_file():
        if (folder / BASELINE / LEDGER).is_file():
            raise StudyError(
                f"{folder} has no search yet, only the study that makes its baseline; "
                "mtpareto search STUDY.yaml goes on with both"
            )
        raise StudyError(f"{folder} holds no {LEDGER}, so it is not a run of this project; check the path")
    whole, _ = _split_torn(path.read_bytes())
    lines = [_parsed(path, number, text) for number, text in enumerate(whole.splitlines(), start=1)]
    header = lines[0] if lines else None
    if header is None or header["kind"] != "study":
        raise StudyError(f"{path} does not begin with its study's header; it is damaged, and can't be resumed")
    if header.get("schema") != SCHEMA:
        raise StudyError(f"{path} has schema {header.get('schema')}; this version reads {SCHEMA} only")
    if strange := next((line["kind"] for line in lines if line["kind"] not in KINDS), None):
        raise StudyError(f"{path} has a line of kind {strange!r}; a newer version of this project wrote it")
    records = [record_from_json(line) for line in lines if line["kind"] == "trial"]
    trials = tuple(record for record in records if not is_set_aside(record.outcome))
    decided = {record.key for record in trials}
    begins = [line for line in lines if line["kind"] == "begin"]
    drivers = [line for line in lines if line["kind"] in ("begin", "end")]
    return Ledger(
        header,
        trials,
        complete=bool(drivers) and drivers[-1]["kind"] == "end" and drivers[-1].get("complete", False),
        asked=begins[-1]["trials"] if begins else None,
        set_aside=tuple({record.key: record for record in records if record.key not in decided}.values()),
        numbers=max((record.number + 1 for record in records), default=0),
    )


def is_set_aside(outcome: Outcome) -> bool:
    """Whether it is a failure that was the machine's or a worker's fault, and is booked on nobody today.

    A trial that was lost in every attempt may have had its share in that, and stays.
    """
    if not isinstance(outcome, Failure) or outcome.reason == "lost":
        return False
    return fault_in_words(outcome.message).whose in ("worker", "machine")


def read_hypotheses(folder: Path, record: TrialRecord) -> list[str]:
    """The trial's translations, in the data set's order; raises StudyError when it has none.

    A trial that a race ended has those of the segments it translated; `read_lines` says which.
    """
    return [line["text"] for line in read_lines(folder, record)]


def read_lines(folder: Path, record: TrialRecord) -> list[HypothesisLine]:
    """The lines of the trial's hypotheses file, in the data set's order: the segment's `id`, `text`, `tokens`,
    `truncated`, and `scores` by metric (not in older ledgers); raises StudyError when it has none."""
    path = hypotheses_file(folder, record)
    lines: list[HypothesisLine] = [json.loads(line) for line in path.read_bytes().splitlines()]
    if record.measurement is not None and len(lines) != record.measurement.segments:
        raise StudyError(
            f"{path} has {len(lines)} hypotheses; trial {record.number} made {record.measurement.segments}"
        )
    return lines


def hypotheses_file(folder: Path, record: TrialRecord) -> Path:
    """The file that holds them; raises StudyError when there is none."""
    if record.hypotheses is None:
        raise StudyError(f"trial {record.number} ended in a failure and has no hypotheses")
    path = folder / record.hypotheses
    if not path.is_file():
        raise StudyError(f"{path}, the hypotheses of trial {record.number}, is gone; put it back to report on this run")
    return path


def create_ledger(folder: Path, header: StudyHeader) -> None:
    """Begin a study's ledger with its header, whole or not at all; raises StudyError when the folder already has one or
    can't be made."""
    refuse_taken(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"{folder} can't be made: {error.strerror}; choose another --out") from error
    with write_through_draft(folder / LEDGER, durable=True) as draft:
        draft.unlink(missing_ok=True)
        _append_line(draft, {"kind": "study", "schema": SCHEMA, **header})


def refuse_taken(folder: Path) -> None:
    """Raise StudyError where a new study can't have the folder: it has a ledger, or is none and can't be made one."""
    if (folder / LEDGER).exists():
        raise StudyError(f"{folder / LEDGER} exists: `mtpareto resume {folder}` continues it; or choose another --out")
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise StudyError(f"{folder} can't be made: {there} is not a folder; choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise StudyError(f"{folder} can't be made: {there} can't be written to; choose another --out")


def mend_torn_tail(folder: Path) -> int:
    """Cut a half-written last line off the ledger, keeping it beside it in `ledger.torn`; returns the bytes cut.

    Waits for a writer that still is at work, up to a minute; raises StudyError when it goes on.
    """
    with _writing(folder):
        return _mend(folder)


class LedgerWriter:
    """The one writer of a run's ledger; a Ray actor on the driver's node that takes no CPU slot.

    It holds the ledger's lock for as long as it lives, so a writer whose driver was killed can't write beside its heir.
    Each (digest, split) is kept once: a second append of one answers with the first, unless that one is set aside. What
    can't be written stays due, and is written before anything else is. With a referee it also judges the trials that
    race on the referee's split, by what the ledger holds. It hears what trials do, how far trainings are, what
    trials are warned of and why workers were lost, and keeps none of that on disk.
    """

    def __init__(self, folder: str, referee: Callable[[], Referee] | None = None) -> None:
        self._folder = Path(folder)
        self._referee = referee() if referee else None
        self._held = _writing(self._folder)
        _mend(self._folder)
        self._known: dict[Key, TrialLine] = {}
        self._due: dict[Key, tuple[EndedTrial, Sequence[HypothesisLine]]] = {}
        self._attempts: dict[Key, int] = {}
        self._trainings: dict[int, Progress] = {}
        self._doings: dict[int, Doing] = {}
        self._warnings: dict[str, None] = {}
        self._losses: dict[int, tuple[str, dict[str, Any] | None]] = {}
        self._stamp = _stamp(self._folder / LEDGER)
        for text in (self._folder / LEDGER).read_bytes().splitlines():
            line: Line = json.loads(text)
            if line["kind"] == "trial" and not is_set_aside(outcome_from_json(line["outcome"])):
                self._known[(line["digest"], line["split"])] = line
                self._teach(line)

    def begin(self, trial: AskedTrial) -> tuple[TrialLine | None, int]:
        """The line already kept for this trial, if any, and which attempt this is (from 1).

        Raises OSError where what is due still can't be written, and LedgerMoved like `append`.
        """
        self._write_due()
        key = _key(trial)
        self._attempts[key] = self._attempts.get(key, 0) + 1
        self._forget_news(trial["number"])
        if self._referee is not None:
            self._referee.begin(trial["number"])
        return self._known.get(key), self._attempts[key]

    def begun(self, trial: AskedTrial) -> int:
        """How many attempts at this trial have begun."""
        return self._attempts.get(_key(trial), 0)

    def append(self, trial: EndedTrial, hypotheses: Sequence[HypothesisLine]) -> TrialLine:
        """Keep an outcome and its hypotheses; returns the line once both are on disk.

        Raises OSError where they can't be written: they are kept in memory then, and written before anything that
        follows; and LedgerMoved where the file is not the one that this writer left.
        """
        key = _key(trial)
        self._forget_news(trial["number"])
        if key not in self._known and key not in self._due:
            record_from_json({"kind": "trial", "digest": key[0], **trial, "hypotheses": None})
            self._due[key] = (trial, hypotheses)
        self._write_due()
        return self._known[key]

    def due(self) -> list[EndedTrial]:
        """The trials whose outcomes are not on disk yet."""
        return [trial for trial, _ in self._due.values()]

    def write_due(self) -> None:
        """Write what is due; raises like `append`."""
        self._write_due()

    def lose(self, number: int, why: str, fault: dict[str, Any] | None) -> None:
        """Take in why the worker of the trial of this number gives it up; fault: where the machine is to blame, should
        no attempt do better."""
        self._losses[number] = (why, fault)

    def lost(self, number: int) -> tuple[str, dict[str, Any] | None]:
        """What was last heard by `lose`; an empty word where nothing was."""
        return self._losses.get(number, ("", None))

    def hear(self, number: int, progress: Progress) -> None:
        """Take in how far the training of the trial of this number is."""
        self._trainings[number] = progress

    def trainings(self) -> dict[int, Progress]:
        """The newest of each trial that is under way and has trained."""
        return dict(self._trainings)

    def does(self, number: int, doing: Doing) -> None:
        """Take in what the trial of this number does now."""
        self._doings[number] = doing

    def doings(self) -> dict[int, Doing]:
        """What each trial that is under way was last heard to do."""
        return dict(self._doings)

    def _forget_news(self, number: int) -> None:
        self._trainings.pop(number, None)
        self._doings.pop(number, None)

    def warn(self, text: str) -> None:
        """Take in what a trial was warned of."""
        self._warnings[text] = None

    def warnings(self) -> list[str]:
        """What trials were warned of since this writer began, each once, in the order in which it came."""
        return list(self._warnings)

    def judge(self, trial: BegunTrial, positions: list[int], scores: list[float], size: int) -> Race | None:
        """Why a trial under way is to be stopped, or None when it goes on; see `Referee.judge`. A reference point is
        measured whole."""
        if self._referee is None or trial.get("reference"):
            return None
        return self._referee.judge(trial["number"], positions, scores, size)

    def _teach(self, line: TrialLine) -> None:
        if self._referee is None or line["split"] != self._referee.split:
            return
        record = record_from_json(line)
        # A file that is gone is named by the report; here its trial is no comparator.
        if record.measurement is not None and record.hypotheses and (self._folder / record.hypotheses).is_file():
            lines = read_lines(self._folder, record)
            self._referee.learn(record.number, not record.candidate.steps, record.measurement, lines)

    def begin_driving(self, trials: int) -> None:
        """Note that a driver went to work, asked for so many trials in all: what was over is not, until it ends."""
        self._append({"kind": "begin", "trials": trials})

    def end(self, complete: bool) -> None:
        """Note that the driver stopped: at the search's end, or before it."""
        self._write_due()
        self._append({"kind": "end", "complete": complete})

    def _write_due(self) -> None:
        for key, (trial, hypotheses) in list(self._due.items()):
            digest, split = key
            name = f"{HYPOTHESES}/{digest}.{split}.jsonl" if hypotheses else None
            if name is not None:
                _write_lines(self._folder / name, hypotheses)
            line: TrialLine = {"kind": "trial", "digest": digest, **trial, "hypotheses": name}
            self._append(line)
            del self._due[key]
            self._known[key] = line
            self._teach(line)

    def _append(self, line: Line) -> None:
        path = self._folder / LEDGER
        now = _stamp(path)
        if now != self._stamp:
            what = "is gone" if now is None else "was replaced" if now[:2] != (self._stamp or ())[:2] else "was changed"
            raise LedgerMoved(f"{path} {what} while a search wrote it, so nothing more is written there")
        _append_line(path, line)
        self._stamp = _stamp(path)


def _key(trial: AskedTrial) -> Key:
    return candidate_from_json(trial["candidate"]).digest, trial["split"]


def _writing(folder: Path) -> AbstractContextManager[object]:
    try:
        return hold(folder / LOCK, WRITER_ENDS)
    except TimeoutError as error:
        raise StudyError(
            f"another process still writes {folder / LEDGER}; end the search that it belongs to (ray::LedgerWriter "
            "among this machine's processes), and try again"
        ) from error


def _mend(folder: Path) -> int:
    path = folder / LEDGER
    whole, torn = _split_torn(path.read_bytes())
    if torn:
        with (folder / TORN).open("ab") as stream:
            stream.write(torn + b"\n")
        with path.open("r+b") as stream:
            stream.truncate(len(whole))
            os.fsync(stream.fileno())
    return len(torn)


def _split_torn(content: bytes) -> tuple[bytes, bytes]:
    end = content.rfind(b"\n") + 1
    return content[:end], content[end:]


def _parsed(path: Path, number: int, text: bytes) -> Line:
    try:
        line = json.loads(text)
    except ValueError as error:
        raise StudyError(f"{path}, line {number} is not JSON ({error}); the ledger is damaged there") from error
    if not isinstance(line, dict) or "kind" not in line:
        raise StudyError(f"{path}, line {number} is not a ledger line; the ledger is damaged there")
    return cast(Line, line)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Which file it is, and how long; None where there is none."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return None
    return now.st_dev, now.st_ino, now.st_size


def _append_line(path: Path, line: Line) -> None:
    text = json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"
    before = path.stat().st_size if path.exists() else 0
    try:
        with path.open("ab") as stream:
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        # Else the next line would be glued to half of this one.
        os.truncate(path, before) if before else path.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write_lines(path: Path, lines: Sequence[HypothesisLine]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_through_draft(path, durable=True) as draft, draft.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
