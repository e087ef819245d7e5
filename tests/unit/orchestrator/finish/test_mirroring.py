"""What is said of an MLflow that can't be written to, and what MLflow itself says then."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mlflow_tracking.mirror import Mirror
from mlflow_tracking.trial_fields import MirroredTrial
from orchestrator.finish.mirroring import mirror_ledger, mirrored_trial, mlflow_troubles, spell_trouble
from orchestrator.ledger.records import LedgerWriter, create_ledger, read_ledger, record_from_json
from search_spaces.methods.quantizers import GPTQ, RTN
from search_spaces.outcome import Failure, Probe, Speed
from tests.support.examples import measurement, trial
from tests.support.fakes import files_no_larger_than

FULL = """(raised as a result of Query-invoked autoflush; consider using a session.no_autoflush block if this flush \
is occurring prematurely)
(sqlite3.OperationalError) database or disk is full
[SQL: INSERT INTO metrics ("key", value) VALUES (?, ?)]
[parameters: [('chrf', 66.65262105722495)]]
(Background on this error at: https://sqlalche.me/e/21/e3q8)"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FULL, "database or disk is full"),
        ("API request to http://127.0.0.1:9 failed\nsee above", "API request to http://127.0.0.1:9 failed"),
    ],
)
def test_mlflows_errors_are_said_in_a_line_without_their_statements(text: str, said: str) -> None:
    assert spell_trouble(OSError(text)) == said


def test_a_store_that_refuses_is_told_by_who_catches_it_alone(tmp_path: Path) -> None:
    said: list[str] = []
    mirror = Mirror(f"sqlite:///{tmp_path / 'mlflow.db'}", "study", tmp_path / "files")
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("mlflow").addHandler(handler)
    try:
        with files_no_larger_than(10), pytest.raises(mlflow_troubles()) as caught:
            mirror.study("study", {"trials": 3}, {})
    finally:
        logging.getLogger("mlflow").removeHandler(handler)
    assert said == []
    assert spell_trouble(caught.value) in ("disk I/O error", "database or disk is full")


class Told(Mirror):
    """A mirror that only notes which trials it is told of."""

    def __init__(self) -> None:
        self.trials: list[tuple[int, str]] = []

    def study(self, *_: object) -> str:
        return "study"

    def trial(self, trial: MirroredTrial) -> str:
        self.trials.append((trial.number, trial.split))
        return "trial"


def test_a_speed_and_a_probe_have_no_run_of_their_own(tmp_path: Path) -> None:
    run, gptq, rtn = tmp_path / "run", (GPTQ(bits=4),), (RTN(bits=4),)
    create_ledger(run, {"spec": {"seed": 0}, "base": {"name": "example/model"}, "conditions": {}})
    writer = LedgerWriter(str(run))
    scored = [{"id": "1", "text": "Ein Hund."}, {"id": "2", "text": "Zwei."}]
    writer.append(trial(measurement(), number=0), scored)
    writer.append(trial(Probe({"en-de": 0.5}, 900, {"compress": 4.0}), gptq, 1, "profile"), [])
    writer.append(trial(Failure("unsupported", "compress", "no"), rtn, 2, "profile"), [])
    writer.append(trial(measurement(), gptq, 3), scored)
    writer.append(trial(measurement(), gptq, 4, "test"), scored)
    writer.append(trial(Speed({1: 81.0}), gptq, 5, "speed"), [])
    mirror, done = Told(), set[str]()
    mirror_ledger(mirror, run, read_ledger(run), done)
    # What is scored again bears the number of its candidate on dev.
    assert mirror.trials == [(0, "dev"), (3, "dev"), (3, "test")]
    assert len(done) == 3


def test_what_was_expected_stands_beside_what_was_found() -> None:
    line = {**trial(measurement(50.0), (RTN(bits=4),)), "kind": "trial", "digest": "0", "hypotheses": None}
    expected = {"kept": 0.98, "low": 0.95, "high": 1.0, "gain": 0.1, "seconds": 9.0}
    assert mirrored_trial(record_from_json(line)).more == {}  # type: ignore[arg-type]
    chosen = mirrored_trial(record_from_json({**line, "why": expected}), {"ratio": 2.0})  # type: ignore[arg-type,typeddict-item]
    assert chosen.more == {"ratio": 2.0, **{f"expected_{name}": value for name, value in expected.items()}}
