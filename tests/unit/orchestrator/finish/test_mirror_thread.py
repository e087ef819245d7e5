"""A search's mirror beside faults of MLflow: what could not be written is written once it can, and once."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_tracking.mirror import Mirror
from orchestrator.finish.mirroring import MirrorThread
from orchestrator.ledger.records import LedgerWriter, create_ledger
from search_spaces.methods.quantizers import RTN
from tests.support.examples import measurement, trial

SECONDS = 90.0


class Search:
    """A ledger that grows beside its mirror's thread."""

    def __init__(self, folder: Path, uri: str) -> None:
        create_ledger(folder, {"spec": {}, "data": {}, "base": {"name": "example/model"}, "conditions": {}})
        self.uri, self.trials = uri, 0
        self._writer = LedgerWriter(str(folder))
        self.thread = MirrorThread(lambda: Mirror(uri, str(folder), folder.parent / "files"), folder)

    def try_one(self) -> None:
        """Another trial ends."""
        steps = (RTN(bits=self.trials + 1),) if self.trials else ()
        self._writer.append(trial(measurement(50.0), steps, self.trials), [{"text": "x"}] * 2)
        self.trials += 1
        self.thread.nudge()

    def mirrored(self) -> list[str]:
        """The names of the trials' runs that are written whole, as MLflow's file has them."""
        with closing(sqlite3.connect(self.uri.removeprefix("sqlite:///"))) as store:
            rows = store.execute(
                "select name from runs where status = 'FINISHED'"
                " and run_uuid in (select run_uuid from tags where key = 'mtpareto.trial')"
            ).fetchall()
        return sorted(name for (name,) in rows)


def wait_until(true: Any) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


@pytest.fixture(name="search")
def running_search(tmp_path: Path, mlflow_store: Path) -> Iterator[Search]:
    search = Search(tmp_path / "run", f"sqlite:///{mlflow_store}")
    search.try_one()
    wait_until(lambda: search.mirrored() == ["000 baseline"])
    yield search
    search.thread.stop(SECONDS)


def test_a_database_that_others_lock_is_written_to_afterwards(
    search: Search, mlflow_store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), closing(sqlite3.connect(mlflow_store, isolation_level=None)) as other:
        other.execute("begin exclusive")
        search.try_one()
        wait_until(lambda: "MLflow can't be written to (database is locked)" in caplog.text)
        other.execute("rollback")
        search.try_one()
        wait_until(lambda: len(search.mirrored()) == 3)
    assert search.mirrored() == ["000 baseline", "001 rtn 2-bit g64", "002 rtn 3-bit g64"]
    assert caplog.text.count("MLflow can't be written to") == 1


def test_a_deleted_experiment_says_how_it_comes_back_and_takes_all_when_it_has(
    search: Search, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = MlflowClient(search.uri)
    experiment = client.get_experiment_by_name("mtpareto").experiment_id
    with caplog.at_level(logging.WARNING):
        client.delete_experiment(experiment)
        search.try_one()
        wait_until(lambda: "MLflow can't be written to" in caplog.text)
        # A resumed search, or `mtpareto mirror`, says what to do.
        with pytest.raises(Exception, match=f"restore --experiment-id {experiment}"):
            Mirror(search.uri, "another", tmp_path)
        client.restore_experiment(experiment)
        search.try_one()
        wait_until(lambda: len(search.mirrored()) == 3)
    assert search.mirrored() == ["000 baseline", "001 rtn 2-bit g64", "002 rtn 3-bit g64"]
