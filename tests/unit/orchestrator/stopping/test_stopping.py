"""Signals to a command: it ends within seconds whatever it is at, its children with it, and its pages are written."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from orchestrator import cli
from orchestrator.cluster.join import _unreachable_since
from orchestrator.ledger.names import LEDGER
from orchestrator.stopping import processes
from tests.support.paths import ROOT
from tests.support.recorded_run import Made, write_data, write_run
from tests.support.signals import heed_signals

# A command whose main thread is told what to do; it has a child that would outlive it.
COMMAND = """
import subprocess, sys, time
from pathlib import Path
from orchestrator.stopping.signals import RunningCommand, stoppable
from orchestrator.stopping.terminal import lasting_streams

work = RunningCommand()
with lasting_streams(), stoppable(work):
    child = subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=-3, stderr=-3)
    {prepare}
    print("child", child.pid, flush=True)
    {at}
print("ended by itself", flush=True)
"""
ENDLESS = {
    "asleep": "time.sleep(600)",
    "in Python": "while True: pass",
    # What holds on to every exception, as the cleaning up of a library may.
    "in a finally": """
    while True:
        try: time.sleep(600)
        except BaseException: continue""",
}
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
# What is promised; on a quiet machine it is one second.
STOP_SECONDS = 10


class Command:
    """The command in a process group of its own, once it says that it is ready."""

    def __init__(self, at: str, prepare: str = "pass", **settings: object) -> None:
        code = COMMAND.format(at=at, prepare=prepare)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, **({"preexec_fn": heed_signals} | settings),
        )  # type: ignore[call-overload]  # fmt: skip
        assert self.process.stdout is not None
        self.child = int(self.process.stdout.readline().split()[1])

    def stop(self, *names: str, group: bool = False, apart: float = 0.0) -> tuple[int, str, float]:
        """Its exit code, what it said since, and the seconds from the first signal on."""
        began = time.monotonic()
        for name in names:
            (os.killpg if group else os.kill)(self.process.pid, getattr(signal, name))
            time.sleep(apart)
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said, time.monotonic() - began


@pytest.fixture(name="run")
def stopped_run(tmp_path: Path, mlflow_store: Path) -> Path:
    """A run's folder whose search is not over."""
    data = {"dev": write_data(tmp_path / "dev.jsonl")}
    folder = write_run(tmp_path / "run", data, [Made(1000, bits=None), Made(500, 0.1)], tracking_uri=None)
    with (folder / LEDGER).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"kind": "begin", "trials": 9}) + "\n")
    return folder


def begun(folder: Path) -> str:
    return f"work.begin(Path({str(folder / LEDGER)!r}))"


def mirrored(folder: Path) -> str:
    """How the study stands in MLflow's store."""
    with closing(sqlite3.connect(folder.parent / "mlflow.db")) as store:
        (status,) = store.execute("select status from runs where name = ?", (folder.name,)).fetchone()
    return str(status)


@pytest.mark.parametrize("at", ENDLESS)
@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_ends_a_command_and_its_children_whatever_it_is_at(name: str, at: str) -> None:
    command = Command(ENDLESS[at])
    code, said, seconds = command.stop(name, group=name == "SIGHUP")
    assert (code, said) == (130, f"stopped by {name}\n")
    assert seconds < STOP_SECONDS
    assert not psutil.pid_exists(command.child)


def test_what_is_ignored_stays_ignored() -> None:
    """As under nohup, and SIGINT of what a script runs in the background."""
    ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    command = Command("time.sleep(2)", preexec_fn=ignore)
    code, said, seconds = command.stop("SIGHUP")
    assert (code, said) == (0, "ended by itself\n") and seconds > 1
    os.kill(command.child, signal.SIGKILL)


def test_a_stopped_search_has_its_pages_and_says_how_to_go_on(run: Path) -> None:
    command, name = Command("time.sleep(600)", begun(run)), "SIGTERM"
    # `timeout` and a closed terminal send it twice at once.
    code, said, seconds = command.stop(name, name, group=True)
    assert code == 130, said
    assert f"stopping ({name})" in said and f"resume with: mtpareto resume {run}" in said
    assert (run / "report.html").is_file() and (run / "frontier.csv").is_file() and (run / "frontier.png").is_file()
    assert "MLflow    sqlite:///" in said and mirrored(run) == "KILLED"
    assert not psutil.pid_exists(command.child) and "Traceback" not in said
    assert not list(run.glob(".draft-*"))
    assert seconds < 60


def test_a_search_whose_ledger_is_made_while_it_is_stopped_says_how_to_go_on(run: Path) -> None:
    kept = (run / LEDGER).rename(run / "kept")
    prepare = f"work.ledger = Path({str(run / LEDGER)!r})"
    # The child is killed after the first look for a ledger.
    code, said, _ = Command(f"child.wait(); Path({str(kept)!r}).rename(work.ledger); time.sleep(600)", prepare).stop(
        "SIGINT"
    )
    assert code == 130 and said.startswith("stopped by SIGINT\n")
    assert f"Resume with: mtpareto resume {run}" in said and (run / "report.html").is_file()


def test_a_resume_knows_its_run_from_its_first_moment_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known: list[Path | None] = []
    monkeypatch.setattr(cli, "exit_code_of", lambda command: known.append(command.args[0].work.folder) or 0)
    assert cli.main(["resume", str(run)]) == cli.main(["resume", str(run / "none")]) == 0
    assert known == [run.resolve(), None]


def test_a_second_signal_ends_at_once(run: Path) -> None:
    before = (run / LEDGER).read_bytes()
    code, said, seconds = Command("time.sleep(600)", begun(run)).stop("SIGINT", "SIGINT", apart=0.8)
    assert code in (130, -signal.SIGINT) and "Traceback" not in said
    assert f"mtpareto resume {run}" in said
    assert seconds < STOP_SECONDS
    assert (run / LEDGER).read_bytes() == before and not (run / "report.html").exists()


def test_a_search_whose_terminal_is_gone_loses_nothing(run: Path) -> None:
    """What it prints raises by then: EPIPE here, EIO on a terminal."""
    command = Command("time.sleep(600)", begun(run))
    assert command.process.stdout is not None
    command.process.stdout.close()
    command.process.send_signal(signal.SIGHUP)
    assert command.process.wait(timeout=60) == 130
    assert (run / "report.html").is_file() and mirrored(run) == "KILLED"


def test_a_search_that_loses_its_ray_has_its_pages(run: Path) -> None:
    command = Command("time.sleep(600)", f'{begun(run)}; work.lost = lambda: "the raylet has ended"')
    said, _ = command.process.communicate(timeout=60)
    assert command.process.returncode == 1
    assert said.startswith("the raylet has ended; the pages follow") and f"mtpareto resume {run}" in said
    assert (run / "report.html").is_file()
    assert not psutil.pid_exists(command.child)


def test_what_ray_raises_when_it_goes_ends_in_its_log_and_not_in_a_traceback(run: Path) -> None:
    raises = """
    try: raise ConnectionError("lost the head")
    except ConnectionError: work.give_up("Ray failed under the search")"""
    quiet = "from orchestrator.stopping.signals import quiet_ray; quiet = quiet_ray(work); quiet.__enter__(); "
    command = Command(raises, quiet + begun(run))
    said, _ = command.process.communicate(timeout=60)
    assert command.process.returncode == 1
    assert said.startswith("Ray failed under the search; the pages follow") and "Traceback" not in said
    assert "ConnectionError: lost the head" in (run / "ray.log").read_text(encoding="utf-8")


def test_a_cluster_is_lost_when_it_has_not_answered_for_a_while() -> None:
    now, down = [0.0], set[str]()
    ports = [("Ray's head", "head", 6379), ("the raylet", "here", 7000)]
    lost = _unreachable_since(ports, lambda: now[0], lambda host, port: "refused" if host in down else None)
    said: list[str | None] = []

    def wait(seconds: Sequence[float]) -> None:
        for moment in seconds:
            now[0] = moment
            said.append(lost())

    wait([2, 4])
    down.add("head")
    wait([6, 10])
    down.clear()
    wait([12])
    down.add("here")
    wait([14, 18, 20])
    assert said == [None] * 8
    wait([22.5])
    assert said[-1] == "the raylet at here:7000 has not answered for 8 s"


def test_processes_whose_parents_are_gone_are_found_by_their_mark() -> None:
    mark = f"test-{os.getpid()}"
    # The shell ends, and its sleep is nobody's child here.
    script = "sleep 600 > /dev/null 2>&1 & echo $!"
    done = subprocess.run(
        ["sh", "-c", script], env=os.environ | {processes.MARK: mark}, capture_output=True, text=True, check=True,
        start_new_session=True, preexec_fn=heed_signals,
    )  # fmt: skip
    orphan = int(done.stdout)
    assert [process.pid for process in processes.find_marked(mark)] == [orphan]
    assert processes.kill(lambda: processes.find_marked(mark)) == []
    assert not psutil.pid_exists(orphan) or not processes.find_marked(mark)
