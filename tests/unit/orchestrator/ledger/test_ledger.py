"""The ledger: what it holds is on disk, once, whole, and told apart from what a crash left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.ledger.records import (
    LEDGER,
    TORN,
    LedgerWriter,
    create_ledger,
    mend_torn_tail,
    read_hypotheses,
    read_ledger,
    record_from_json,
)
from search_spaces.candidate import Candidate
from search_spaces.errors import StudyError
from search_spaces.methods.quantizers import RTN
from search_spaces.outcome import Failure, Probe
from tests.support.examples import BASE, measurement, trial
from tests.support.fakes import BrokenSync, WatchedSync, files_no_larger_than
from workers.failures.table import LedgerMoved
from workers.runtime.training_progress import Progress

RTN4 = (RTN(bits=4),)
LINES = [
    {"id": "1", "text": "Ein Hund rennt.", "tokens": 5, "truncated": False},
    {"id": "2", "text": "Zwei Kinder.", "tokens": 25, "truncated": False},
]
# A writer that appends once more, a second after it has said that it is there.
LEFT_BEHIND = """
import sys, time
from orchestrator.ledger.records import LedgerWriter
from tests.support.examples import measurement, trial
from tests.unit.orchestrator.ledger.test_ledger import LINES, RTN4

writer = LedgerWriter(sys.argv[1])
print("begun", flush=True)
time.sleep(1)
writer.append(trial(measurement(), RTN4, number=1), LINES)
"""
TEXTS = ["Ein Hund rennt.", "Zwei Kinder."]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    create_ledger(run, {"spec": {"seed": 0}, "base": {"name": "example/model"}})
    return run


def test_what_is_appended_is_read_back(folder: Path) -> None:
    writer = LedgerWriter(str(folder))
    writer.append(trial(measurement(61.5, 900), RTN4, number=1), LINES)
    writer.append(trial(Failure("out_of_memory", "load", "too big"), number=0), [])

    ledger = read_ledger(folder)

    assert ledger.header["spec"] == {"seed": 0}
    assert ledger.header["schema"] == 1
    assert [record.number for record in ledger.trials] == [1, 0]
    assert [record.number for record in ledger.on("dev")] == [0, 1]
    assert ledger.on("test") == []
    measured, failed = ledger.trials
    assert measured.outcome == measured.measurement == measurement(61.5, 900)
    assert measured.candidate.steps == RTN4
    assert failed.outcome == Failure("out_of_memory", "load", "too big")
    assert failed.measurement is None
    assert read_hypotheses(folder, measured) == TEXTS
    with pytest.raises(StudyError, match="trial 0 ended in a failure and has no hypotheses"):
        read_hypotheses(folder, failed)


def test_why_a_candidate_was_chosen_is_read_back_and_a_line_without_it_is_read(folder: Path) -> None:
    why = {"kept": 0.9512, "low": 0.9, "high": 1.002, "gain": 0.0123, "seconds": 41.5}
    writer = LedgerWriter(str(folder))
    writer.append({**trial(measurement(), RTN4, number=1), "why": why}, LINES)
    writer.append(trial(measurement(), number=0), LINES)
    chosen, other = (json.loads(line) for line in (folder / LEDGER).read_text("utf-8").splitlines()[1:])
    assert chosen["why"] == why and "why" not in other
    assert record_from_json(chosen).why == why
    assert record_from_json(other).why == {}
    assert [record.why for record in read_ledger(folder).trials] == [why, {}]


def test_a_probe_is_read_back_and_has_neither_hypotheses_nor_a_measurement(folder: Path) -> None:
    probe = Probe({"en-de": 0.5}, 900, {"compress": 4.0}, ("a note",))
    writer = LedgerWriter(str(folder))
    writer.append(trial(probe, RTN4, number=1, split="profile"), [])
    writer.append(trial(measurement(), RTN4, number=2), LINES)
    probed, measured = read_ledger(folder).trials
    assert (probed.outcome, probed.measurement, probed.hypotheses) == (probe, None, None)
    # One candidate has a line on each split.
    assert probed.key == (measured.key[0], "profile")


def test_a_training_is_heard_of_until_its_trial_ends_or_begins_again_and_leaves_nothing_on_disk(folder: Path) -> None:
    before = (folder / LEDGER).read_bytes()
    writer = LedgerWriter(str(folder))
    earlier, later = (Progress("recover", tokens, 1000, 50.0, 1.5, None, 10.0) for tokens in (100, 200))
    one, two = trial(measurement(), RTN4, number=1), trial(measurement(), number=2)
    writer.begin(one)
    for number, progress in ((1, earlier), (2, earlier), (1, later)):
        writer.hear(number, progress)
    assert writer.trainings() == {1: later, 2: earlier}
    writer.begin(two)
    assert writer.trainings() == {1: later}
    assert (folder / LEDGER).read_bytes() == before
    writer.append(one, LINES)
    assert writer.trainings() == {}


def test_what_trials_are_warned_of_is_known_once_and_leaves_nothing_on_disk(folder: Path) -> None:
    before = (folder / LEDGER).read_bytes()
    writer = LedgerWriter(str(folder))
    for text in ("slow", "halved", "slow"):
        writer.warn(text)
    assert writer.warnings() == ["slow", "halved"]
    assert (folder / LEDGER).read_bytes() == before


def test_a_candidate_is_kept_once_and_a_second_append_answers_with_the_first(folder: Path) -> None:
    writer = LedgerWriter(str(folder))
    first = writer.append(trial(measurement(50.0), RTN4, number=1), LINES)
    second = writer.append(trial(measurement(99.0), RTN4, number=2), LINES[::-1])

    assert second == first
    (record,) = read_ledger(folder).trials
    assert record.measurement == measurement(50.0)
    assert read_hypotheses(folder, record) == TEXTS


def test_a_new_writer_knows_what_the_ledger_holds(folder: Path) -> None:
    first = LedgerWriter(str(folder)).append(trial(measurement(50.0), RTN4, number=1), LINES)
    again = LedgerWriter(str(folder))
    assert again.begin(trial(measurement(), RTN4)) == (first, 1)
    assert again.append(trial(measurement(99.0), RTN4, number=7), []) == first
    assert len(read_ledger(folder).trials) == 1


def test_one_candidate_has_an_outcome_a_split(folder: Path) -> None:
    writer = LedgerWriter(str(folder))
    writer.append(trial(measurement(50.0), RTN4, number=1), LINES)
    writer.append(trial(measurement(49.0), RTN4, number=2, split="test"), LINES)
    ledger = read_ledger(folder)
    assert [record.number for record in ledger.on("dev")] == [1]
    assert [record.number for record in ledger.on("test")] == [1], "the candidate's own trial"
    assert [record.number for record in ledger.trials] == [1, 2]
    assert len({record.hypotheses for record in ledger.trials}) == 2


def test_attempts_are_counted_by_candidate_and_split(folder: Path) -> None:
    writer = LedgerWriter(str(folder))
    assert writer.begin(trial(measurement(), RTN4)) == (None, 1)
    assert writer.begin(trial(measurement(), RTN4)) == (None, 2)
    assert writer.begin(trial(measurement(), RTN4, split="test")) == (None, 1)


def test_a_writer_whose_driver_was_killed_ends_before_another_begins(folder: Path) -> None:
    left = subprocess.Popen([sys.executable, "-c", LEFT_BEHIND, str(folder)], stdout=subprocess.PIPE, text=True)
    assert left.stdout is not None and left.stdout.readline() == "begun\n"
    assert read_ledger(folder).trials == ()
    writer = LedgerWriter(str(folder))
    assert left.wait(timeout=10) == 0
    assert writer.begin(trial(measurement(), RTN4, number=1))[0] is not None
    assert len(read_ledger(folder).trials) == 1


def test_a_writer_that_goes_on_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.ledger.records.WRITER_ENDS", 0.1)
    writer = LedgerWriter(str(folder))
    for other in (lambda: LedgerWriter(str(folder)), lambda: mend_torn_tail(folder)):
        with pytest.raises(StudyError, match=r"another process still writes .*ledger\.jsonl"):
            other()
    writer.append(trial(measurement(), RTN4), LINES)
    del writer
    assert mend_torn_tail(folder) == 0


@pytest.mark.parametrize("cut", [1, 20, 300])
def test_a_torn_last_line_is_cut_off_and_kept_aside(folder: Path, cut: int) -> None:
    LedgerWriter(str(folder)).append(trial(measurement(50.0), RTN4, number=1), LINES)
    whole = (folder / LEDGER).read_bytes()
    torn = whole.splitlines(keepends=True)[-1][:cut]
    (folder / LEDGER).write_bytes(whole + torn)

    assert len(read_ledger(folder).trials) == 1
    assert mend_torn_tail(folder) == cut
    assert (folder / LEDGER).read_bytes() == whole
    assert (folder / TORN).read_bytes() == torn + b"\n"
    assert mend_torn_tail(folder) == 0


def test_a_whole_line_without_its_line_break_counts_as_torn(folder: Path) -> None:
    LedgerWriter(str(folder)).append(trial(measurement(), RTN4), LINES)
    whole = (folder / LEDGER).read_bytes()
    (folder / LEDGER).write_bytes(whole[:-1])
    assert read_ledger(folder).trials == ()
    LedgerWriter(str(folder)).append(trial(measurement(), RTN4), LINES)
    assert (folder / LEDGER).read_bytes() == whole


def test_a_new_writer_appends_after_the_torn_tail_is_gone(folder: Path) -> None:
    with (folder / LEDGER).open("ab") as stream:
        stream.write(b'{"kind": "tri')
    LedgerWriter(str(folder)).append(trial(measurement(), RTN4), LINES)
    assert len(read_ledger(folder).trials) == 1
    assert (folder / TORN).read_bytes() == b'{"kind": "tri\n'


@pytest.mark.parametrize("damage", [b'{"kind": "trial", "dig\n', b"[1, 2]\n", b'{"split": "dev"}\n', b"\n"])
def test_a_damaged_line_in_the_middle_is_named(folder: Path, damage: bytes) -> None:
    LedgerWriter(str(folder)).append(trial(measurement(), RTN4), LINES)
    header, line = (folder / LEDGER).read_bytes().splitlines(keepends=True)
    (folder / LEDGER).write_bytes(header + damage + line)
    with pytest.raises(StudyError, match=r"ledger\.jsonl, line 2 is not .*damaged there"):
        read_ledger(folder)


def test_a_ledger_without_its_header_is_refused(folder: Path) -> None:
    LedgerWriter(str(folder)).append(trial(measurement(), RTN4), LINES)
    (folder / LEDGER).write_bytes((folder / LEDGER).read_bytes().splitlines(keepends=True)[1])
    with pytest.raises(StudyError, match="does not begin with its study's header"):
        read_ledger(folder)
    (folder / LEDGER).write_bytes(b"")
    with pytest.raises(StudyError, match="does not begin with its study's header"):
        read_ledger(folder)


def test_a_folder_without_a_ledger_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="is not a run of this project; check the path"):
        read_ledger(tmp_path)


def test_a_study_is_begun_once(folder: Path) -> None:
    before = (folder / LEDGER).read_bytes()
    with pytest.raises(StudyError, match=r"exists: `mtpareto resume"):
        create_ledger(folder, {"spec": {"seed": 1}})
    assert (folder / LEDGER).read_bytes() == before


@pytest.mark.parametrize("text", ["a\u2028b\u2029c", "a\nb\r\nc\rd", "a\x85b\x0bc\x0cd\x1ce", "", '"\\', "日本語 🐕"])
def test_hypotheses_survive_whatever_they_hold(folder: Path, text: str) -> None:
    lines = [{**LINES[0], "text": text}, {**LINES[0], "text": "next"}]
    LedgerWriter(str(folder)).append(trial(measurement(), RTN4), lines)
    (record,) = read_ledger(folder).trials
    assert read_hypotheses(folder, record) == [text, "next"]


def test_a_failures_message_survives_line_breaks_of_every_kind(folder: Path) -> None:
    failure = Failure("error", "load", "one\ntwo\u2028three\x85four\r")
    writer = LedgerWriter(str(folder))
    writer.append(trial(failure, RTN4), [])
    writer.append(trial(measurement()), LINES)
    assert read_ledger(folder).trials[0].outcome == failure
    assert len(read_ledger(folder).trials) == 2


def test_what_a_record_cannot_be_read_back_from_is_never_written(folder: Path) -> None:
    before = (folder / LEDGER).read_bytes()
    line = json.loads(json.dumps(trial(measurement(50.0), RTN4)).replace("50.0", "NaN"))
    with pytest.raises(ValueError, match="finite"):
        LedgerWriter(str(folder)).append(line, LINES)
    assert (folder / LEDGER).read_bytes() == before


def test_append_returns_after_both_files_were_synced_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LedgerWriter(str(folder))
    sync = WatchedSync()
    monkeypatch.setattr(os, "fsync", sync)
    writer.append(trial(measurement(), RTN4), LINES)

    (draft, held), (renamed_in, _), (ledger, lines) = sync.contents
    assert [json.loads(line) for line in held.splitlines()] == LINES
    assert draft.parent == renamed_in == folder / "hypotheses"
    assert ledger == folder / LEDGER
    assert lines == (folder / LEDGER).read_bytes()


def test_what_was_not_synced_is_not_left_behind_and_is_written_before_anything_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = LedgerWriter(str(folder))
    before = (folder / LEDGER).read_bytes()
    lost = trial(Failure("lost", "run", "x"), RTN4, number=3)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", BrokenSync())
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output error"):
                writer.append(lost, [])
        with pytest.raises(OSError, match="Input/output error"):
            writer.begin(trial(measurement()))
    assert (folder / LEDGER).read_bytes() == before
    assert [one["number"] for one in writer.due()] == [3]

    writer.append(trial(measurement(77.0)), LINES)
    assert [record.number for record in read_ledger(folder).trials] == [3, 0]
    assert writer.due() == []


def test_a_disk_that_fills_up_inside_a_line_leaves_no_half_line_and_loses_no_outcome(folder: Path) -> None:
    writer = LedgerWriter(str(folder))
    before = (folder / LEDGER).read_bytes()
    with files_no_larger_than(len(before) + 50), pytest.raises(OSError, match="File too large"):
        writer.append(trial(measurement(77.0), RTN4), LINES)
    assert (folder / LEDGER).read_bytes() == before
    assert not list((folder / "hypotheses").glob("*.draft"))

    known, attempt = writer.begin(trial(measurement(77.0), RTN4))
    assert known is not None and attempt == 1
    (record,) = read_ledger(folder).trials
    assert record.measurement == measurement(77.0)
    assert read_hypotheses(folder, record) == TEXTS


@pytest.mark.parametrize("fault", ["moved", "replaced", "changed"])
def test_a_ledger_that_is_not_the_one_that_was_left_is_not_written_to(folder: Path, fault: str) -> None:
    writer = LedgerWriter(str(folder))
    path = folder / LEDGER
    content = path.read_bytes()
    if fault == "changed":
        with path.open("ab") as stream:
            stream.write(b'{"kind": "end", "complete": true}\n')
    else:
        path.rename(folder / "away.jsonl")
    if fault == "replaced":
        path.write_bytes(content)
    there = path.read_bytes() if path.exists() else None
    with pytest.raises(
        LedgerMoved, match=rf"{'is gone' if fault == 'moved' else f'was {fault}'} while a search wrote it"
    ):
        writer.append(trial(measurement(), RTN4), LINES)
    assert (path.read_bytes() if path.exists() else None) == there
    if fault != "changed":
        (folder / "away.jsonl").replace(path) if fault == "replaced" else (folder / "away.jsonl").rename(path)
        assert writer.begin(trial(measurement(), RTN4))[0] is not None
        assert len(read_ledger(folder).trials) == 1


BY_THE_MACHINE = [
    Failure("error", "compress", "SafetensorError: I/O error: No space left on device (os error 28) (at folder.py:3)"),
    Failure("error", "load", "ModuleNotFoundError: No module named 'bitsandbytes' (at registry.py:10)"),
    Failure("out_of_memory", "load", "OutOfMemoryError: Task was killed due to the node running low on memory."),
    Failure("error", "load", "OSError: the model in /m is not the one the study began with (a, not b)"),
    Failure("error", "translate", "RuntimeError: CUDA driver error: unknown error"),
]
BY_THE_CANDIDATE = [
    Failure("lost", "run", "the worker was lost in each of 4 attempts; OSError: [Errno 28] No space left on device"),
    Failure("out_of_memory", "translate", "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."),
    Failure("unsupported", "compress", "StudyError: a calibration Hessian of 4864 inputs has no Cholesky factor"),
    Failure("not_finite", "score", "ValueError: score is nan; a measured number is finite"),
    Failure("error", "load", "made up"),
]


@pytest.mark.parametrize("failure", BY_THE_MACHINE, ids=lambda failure: failure.message[:30])
def test_an_older_ledgers_failure_that_was_the_machines_is_set_aside_and_replaced_by_a_later_line(
    folder: Path, failure: Failure
) -> None:
    line = {"kind": "trial", "digest": Candidate(BASE, RTN4).digest, **trial(failure, RTN4, number=4)}
    with (folder / LEDGER).open("a") as stream:
        stream.write(json.dumps({**line, "hypotheses": None}) + "\n")
    ledger = read_ledger(folder)
    assert ledger.trials == () and ledger.numbers == 5
    assert [record.number for record in ledger.set_aside] == [4]

    writer = LedgerWriter(str(folder))
    assert writer.begin(trial(measurement(), RTN4))[0] is None
    writer.append(trial(measurement(70.0), RTN4, number=4), LINES)
    assert writer.append(trial(measurement(71.0), RTN4, number=9), LINES)["number"] == 4
    ledger = read_ledger(folder)
    assert [record.measurement for record in ledger.trials] == [measurement(70.0)]
    assert ledger.set_aside == ()
    assert len((folder / LEDGER).read_bytes().splitlines()) == 3


@pytest.mark.parametrize("failure", BY_THE_CANDIDATE, ids=lambda failure: failure.message[:30])
def test_a_candidates_own_failure_stays(folder: Path, failure: Failure) -> None:
    LedgerWriter(str(folder)).append(trial(failure, RTN4, number=4), [])
    ledger = read_ledger(folder)
    assert [record.outcome for record in ledger.trials] == [failure] and ledger.set_aside == ()


def test_why_a_worker_gave_a_trial_up_is_kept_for_the_driver(folder: Path) -> None:
    writer = LedgerWriter(str(folder))
    assert writer.lost(3) == ("", None)
    writer.lose(3, "the network did not answer", {"what": "x"})
    assert writer.lost(3) == ("the network did not answer", {"what": "x"})


def test_a_study_that_could_not_be_begun_can_be_begun_again(tmp_path: Path) -> None:
    with files_no_larger_than(20), pytest.raises(OSError, match="File too large"):
        create_ledger(tmp_path / "run", {"spec": {"seed": 0}})
    create_ledger(tmp_path / "run", {"spec": {"seed": 0}})
    assert read_ledger(tmp_path / "run").header["spec"] == {"seed": 0}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(StudyError, match=rf"{folder} can't be made: .*; choose another --out"):
            create_ledger(folder, {"spec": {"seed": 0}})


def test_a_ledger_of_another_version_is_refused(folder: Path) -> None:
    whole = (folder / LEDGER).read_bytes()
    (folder / LEDGER).write_bytes(whole.replace(b'"schema": 1', b'"schema": 2'))
    with pytest.raises(StudyError, match="has schema 2; this version reads 1 only"):
        read_ledger(folder)
    (folder / LEDGER).write_bytes(whole + b'{"kind": "rung"}\n')
    with pytest.raises(StudyError, match="a line of kind 'rung'; a newer version"):
        read_ledger(folder)


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_lost_hypotheses_are_named_instead_of_passed_over(folder: Path, damage: str) -> None:
    LedgerWriter(str(folder)).append(trial(measurement(), RTN4, number=4), LINES)
    (record,) = read_ledger(folder).trials
    assert record.hypotheses is not None
    file = folder / record.hypotheses
    file.unlink() if damage == "gone" else file.write_bytes(file.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(
        StudyError, match="trial 4, is gone" if damage == "gone" else "has 1 hypotheses; trial 4 made 2"
    ):
        read_hypotheses(folder, record)


def test_a_search_is_complete_only_by_its_last_end(folder: Path) -> None:
    writer = LedgerWriter(str(folder))
    assert not read_ledger(folder).complete
    writer.end(complete=True)
    assert read_ledger(folder).complete
    writer.append(trial(measurement(), RTN4), LINES)
    writer.end(complete=False)
    assert not read_ledger(folder).complete


def test_a_search_that_goes_on_is_not_complete_until_it_ends_and_keeps_the_number_it_was_asked_for(
    folder: Path,
) -> None:
    assert read_ledger(folder).asked is None
    writer = LedgerWriter(str(folder))
    writer.begin_driving(12)
    writer.end(complete=True)
    assert read_ledger(folder).complete
    writer.begin_driving(40)
    writer.append(trial(measurement(), RTN4), LINES)
    assert not read_ledger(folder).complete
    assert read_ledger(folder).asked == 40
