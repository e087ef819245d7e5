"""What is said of an MLflow that can't be written to, and what MLflow itself says then."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mlflow_tracking.mirror import Mirror
from orchestrator.finish.mirroring import mlflow_troubles, spell_trouble
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
