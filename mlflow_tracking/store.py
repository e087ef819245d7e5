"""Makes MLflow's local store, a SQLite file, whole or not at all, and by one process while others wait."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.runtime.file_locks import hold

# MLflow's migrations of an empty file take seconds; who waits longer finds something else wrong.
MAKE_SECONDS = 120.0
SQLITE = "sqlite:///"


@contextmanager
def hold_store(uri: str) -> Iterator[None]:
    """Hold the store's lock, with the store made where it was missing; nothing to do for a server.

    MLflow itself runs its migrations in the file, so two processes that find none spoil it for good, and so does one
    that is killed meanwhile. Here they run in a draft, which is renamed when whole. Raises TimeoutError when another
    process keeps the lock.
    """
    if not is_sqlite(uri):
        yield
        return
    file = sqlite_file(uri)
    file.parent.mkdir(parents=True, exist_ok=True)
    with hold(file.with_name(f"{file.name}.lock"), MAKE_SECONDS):
        if not file.is_file() or not file.stat().st_size:
            _make(file)
        yield


def is_sqlite(uri: str) -> bool:
    """Whether the URI names a SQLite file."""
    return uri.startswith(SQLITE) and len(uri) > len(SQLITE)


def sqlite_file(uri: str) -> Path:
    """The file of `sqlite:///FILE`; a relative one is taken from the current folder, as SQLAlchemy does."""
    return Path(uri[len(SQLITE) :].split("?")[0])


def _make(file: Path) -> None:
    from mlflow import MlflowClient

    for left in file.parent.glob(f".{file.name}.draft-*"):
        left.unlink()
    # The process's number keeps MLflow's own cache of engines from answering with another draft.
    draft = file.with_name(f".{file.name}.draft-{os.getpid()}")
    MlflowClient(tracking_uri=f"{SQLITE}{draft}").search_experiments(max_results=1)
    draft.replace(file)
