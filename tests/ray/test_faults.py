"""Searches that are killed, interrupted, or lose a worker: nothing measured is lost, and nothing is measured twice."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestrator.finish import run_folder
from orchestrator.ledger.records import LOCK, WRITER_ENDS
from orchestrator.search import driver
from tests.ray.conftest import Command, Running, free_port, ledger_lines, trials
from tests.support.littering import Littering
from workers.runtime.atomic_files import DRAFT
from workers.runtime.file_locks import hold

TRIALS = "5"
Start = Callable[..., Running]


def finished(folder: Path) -> list[str]:
    """What every outcome is known by; a repeated one would be there twice."""
    return sorted(f"{line['digest']}.{line['split']}" for line in trials(folder))


def test_a_search_killed_at_once_with_its_cluster_goes_on(
    runs: Path, small_study: list[str], running: Start, here: Command
) -> None:
    folder = runs / "killed"
    command = running("search", *small_study, "--space", "bit-width", "--trials", TRIALS, "--out", str(folder))
    command.wait_until(lambda: len(trials(folder)) >= 2)
    before = trials(folder)
    command.kill()
    # The writer that was left behind may still append; who holds this is the only one.
    with hold(folder / LOCK, WRITER_ENDS), (folder / "ledger.jsonl").open("ab") as stream:
        stream.write(b'{"kind": "trial", "dig')

    done = here("resume", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cut short by a crash" in done.stdout
    after = trials(folder)
    assert after[: len(before)] == before
    assert len(finished(folder)) == len(set(finished(folder))) == int(TRIALS)
    assert ledger_lines(folder)[-1]["complete"] is True


def test_ctrl_c_ends_cleanly_and_resume_goes_on(
    runs: Path, small_study: list[str], running: Start, here: Command
) -> None:
    folder = runs / "stopped"
    command = running("search", *small_study, "--space", "bit-width", "--trials", TRIALS, "--out", str(folder))
    command.wait_until(lambda: len(trials(folder)) >= 2)
    for lock in (run_folder.LOCK, LOCK):
        with pytest.raises(TimeoutError):
            hold(folder / lock, 0.0)
    command.interrupt()
    code, output = command.end()
    assert code == 130, output
    assert f"mtpareto resume {folder}" in output
    assert "Traceback" not in output
    assert (folder / "frontier.csv").is_file() and (folder / "report.html").is_file()
    before = trials(folder)
    assert len(before) < int(TRIALS)

    done = here("resume", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert trials(folder)[: len(before)] == before
    assert {line["outcome"]["kind"] for line in trials(folder)} == {"measurement"}
    assert len(finished(folder)) == len(set(finished(folder))) == int(TRIALS)


def test_a_lost_worker_is_tried_again_and_a_dead_mlflow_stops_nothing(
    tmp_path: Path, mlflow_store: Path, small_study: list[str], running: Start, here: Command
) -> None:
    folder, port = tmp_path / "lost", free_port()
    command = running(
        "search", *small_study, "--space", "bit-width", "--trials", "3", "--out", str(folder),
        "--tracking-uri", f"http://127.0.0.1:{port}", "--calibration-tokens", "16384",
    )  # fmt: skip
    # The second trial is under way when it has begun to write what it makes.
    command.wait_until(lambda: len(trials(folder)) == 1 and any((folder / "store").glob(f"{DRAFT}*")))
    worker = int(trials(folder)[0]["worker"].split(":")[1])
    assert worker in descendants(command.process.pid)
    os.kill(worker, signal.SIGKILL)
    code, output = command.end()
    assert code == 0, output
    assert f"mtpareto mirror {folder}" in output
    assert [line["outcome"]["kind"] for line in trials(folder)] == ["measurement"] * 3
    assert "was lost; attempt 2 follows" in output
    assert len({line["worker"] for line in trials(folder)}) == 2

    assert here("mirror", str(folder)).returncode == 1
    shutil.copyfile(mlflow_store, tmp_path / "server.db")
    with mlflow_server(tmp_path, port):
        assert here("mirror", str(folder)).returncode == 0
        client = MlflowClient(f"http://127.0.0.1:{port}")
        experiment = client.get_experiment_by_name("mtpareto")
        assert len(client.search_runs([experiment.experiment_id])) == 1 + len(trials(folder))


def test_a_worker_that_left_gpu_memory_behind_serves_no_other_trial(
    runs: Path, small_study: list[str], here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "CompressionTrial", Littering)
    folder = runs / "littered"
    asked = ["--space", "bit-width", "--trials", "3", "--retries", "0", "--no-speed", "--out", str(folder)]
    done = here("search", *small_study, *asked)
    assert done.returncode == 0, done.stdout + done.stderr
    found = trials(folder)
    assert [line["outcome"]["kind"] for line in found] == ["measurement"] * 3
    assert {line["attempt"] for line in found} == {1}
    assert len({line["worker"] for line in found}) == 3
    assert "80.00 GiB were left on the GPU" in (folder / "ray.log").read_text(encoding="utf-8")


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[None]:
    """A real tracking server on the loopback, over the folder's `server.db`."""
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait_for_port(port)
        yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def wait_for_port(port: int, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < end, f"nothing listens on port {port} after {seconds} s"
        time.sleep(0.2)


def descendants(pid: int) -> set[int]:
    """The processes that a process started, and those that these did."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in table.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found: set[int] = set()
    due = [pid]
    while due:
        new = [child for child in children.get(due.pop(), []) if child not in found]
        found.update(new)
        due.extend(new)
    return found
