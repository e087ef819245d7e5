"""Searches that are killed, interrupted, or lose a worker: nothing measured is lost, and nothing is measured twice."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.ray.conftest import Running, ledger_lines, mtpareto, trials

TRIALS = "6"
Start = Callable[..., Running]


def finished(folder: Path) -> list[str]:
    """What every outcome is known by; a repeated one would be there twice."""
    return sorted(f"{line['digest']}.{line['split']}" for line in trials(folder))


def test_a_search_killed_at_once_with_everything_it_started_goes_on(
    tmp_path: Path, small_study: list[str], running: Start
) -> None:
    folder = tmp_path / "killed"
    command = running("search", *small_study, "--space", "bit-width", "--trials", TRIALS, "--out", str(folder))
    command.wait_until(lambda: len(trials(folder)) >= 2)
    before = trials(folder)
    command.kill()
    with (folder / "ledger.jsonl").open("ab") as stream:
        stream.write(b'{"kind": "trial", "dig')

    done = mtpareto("resume", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cut short by a crash" in done.stdout
    after = trials(folder)
    assert after[: len(before)] == before
    assert len(finished(folder)) == len(set(finished(folder))) == int(TRIALS)
    assert ledger_lines(folder)[-1]["complete"] is True


def test_ctrl_c_ends_cleanly_and_resume_goes_on(tmp_path: Path, small_study: list[str], running: Start) -> None:
    folder = tmp_path / "stopped"
    command = running("search", *small_study, "--space", "joint", "--trials", TRIALS, "--out", str(folder))
    command.wait_until(lambda: len(trials(folder)) >= 2)
    command.signal(signal.SIGINT)
    code, output = command.end()
    assert code == 130, output
    assert f"mtpareto resume {folder}" in output
    assert "Traceback" not in output
    assert (folder / "frontier.csv").is_file() and (folder / "report.html").is_file()
    before = trials(folder)
    assert len(before) < int(TRIALS)

    done = mtpareto("resume", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert trials(folder)[: len(before)] == before
    assert len(finished(folder)) == len(set(finished(folder))) == int(TRIALS)


def test_a_lost_worker_is_tried_again_and_a_dead_mlflow_stops_nothing(
    tmp_path: Path, small_study: list[str], running: Start
) -> None:
    folder = tmp_path / "lost"
    command = running(
        "search", *small_study, "--space", "bit-width", "--trials", "3", "--out", str(folder),
        "--tracking-uri", f"sqlite:///{tmp_path}/no/such/folder/mlflow.db",
    )  # fmt: skip
    command.wait_until(lambda: len(trials(folder)) >= 1)
    worker = int(trials(folder)[0]["worker"].split(":")[1])
    assert worker in descendants(command.process.pid)
    os.kill(worker, signal.SIGKILL)
    code, output = command.end()
    assert code == 0, output
    assert f"mtpareto mirror {folder}" in output
    assert [line["outcome"]["kind"] for line in trials(folder)] == ["measurement"] * 3
    assert len({line["worker"] for line in trials(folder)}) == 2

    assert mtpareto("mirror", str(folder)).returncode == 1
    (tmp_path / "no/such/folder").mkdir(parents=True)
    assert mtpareto("mirror", str(folder)).returncode == 0


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
