"""What the whole-search tests share: small data cut from the shipped set, a Ray, and the commands: as a person runs
them (`mtpareto`, `running`), or in this process on the Ray that tests share (`here`), without a start of their own."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mlflow_tracking.store import hold_store
from orchestrator import environment as project
from orchestrator.cli import exit_code_of, parser
from orchestrator.cluster import join as cluster
from orchestrator.stopping.signals import RunningCommand
from tests.support.paths import ROOT
from tests.support.signals import heed_signals
from workers.plan.evaluation_plan import SPEED_SPLIT

# Of each pair of languages in the small data.
SEGMENTS = 6
# Variables that the shared Ray has set in this process.
SET_HERE: set[str] = set()
Command = Callable[..., subprocess.CompletedProcess[str]]


def cut(source: Path, target: Path, segments: int, skip: int = 0) -> Path:
    """The first segments of each pair of a data file in the WMT24 ESA form."""
    lines = [line for line in source.read_text(encoding="utf-8").splitlines() if line]
    kept = [line for line in lines if skip < json.loads(line)["line_id"] <= skip + segments]
    target.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return target


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cut(ROOT / "data" / "subset.jsonl", tmp_path_factory.mktemp("data") / "dev.jsonl", SEGMENTS)


@pytest.fixture(scope="session")
def small_test(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cut(ROOT / "data" / "test.jsonl", tmp_path_factory.mktemp("data") / "test.jsonl", SEGMENTS)


@pytest.fixture(scope="session")
def small_training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every twentieth of the calibration pairs."""
    file = tmp_path_factory.mktemp("data") / "train.jsonl"
    rows = gzip.decompress((ROOT / "data" / "calibration.jsonl.gz").read_bytes()).decode().splitlines()[::20]
    file.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def small_study(small_data: Path) -> list[str]:
    """Flags of a search that takes a second a trial."""
    return ["--data", str(small_data), "--max-new-tokens", "32", "--calibration-tokens", "2048"]


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with hold_store(f"sqlite:///{file}"):
        return file


@pytest.fixture
def runs(tmp_path: Path, mlflow_store: Path) -> Path:
    """A folder for runs with an MLflow store, whose making takes seconds each time."""
    shutil.copyfile(mlflow_store, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[None]:
    """A local Ray of this process."""
    before = set(os.environ)
    # Ray, which is loaded already, has read whether there is a token.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    project.prepare(None)
    joined = cluster.join(None)
    SET_HERE.update(set(os.environ) - before)
    yield
    joined.leave()


@pytest.fixture
def here(shared_ray: None) -> Command:
    """Runs the command to its end in this process, on the Ray that tests share."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        said, errors = io.StringIO(), io.StringIO()
        options = parser(arguments).parse_args(arguments)
        options.work = RunningCommand()
        with redirect_stdout(said), redirect_stderr(errors):
            code = exit_code_of(partial(options.run, options))
        return subprocess.CompletedProcess(arguments, code, said.getvalue(), errors.getvalue())

    return run


def environment() -> dict[str, str]:
    """The environment without a cluster's address and what the shared Ray set, so that each command starts its own."""
    return {key: value for key, value in os.environ.items() if key not in {"RAY_ADDRESS", *SET_HERE}}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def mtpareto(*arguments: str, timeout: float = 400) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "orchestrator.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT, env=environment())


class Running:
    """The command, running in a process group of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=environment(),
            start_new_session=True, preexec_fn=heed_signals,
        )  # fmt: skip

    def wait_until(self, holds: Callable[[], bool], seconds: float = 200) -> None:
        end = time.monotonic() + seconds
        while not holds():
            if self.process.poll() is not None:
                raise AssertionError(f"ended early:\n{self.process.stdout.read() if self.process.stdout else ''}")
            if time.monotonic() > end:
                self.kill()
                raise AssertionError(f"not after {seconds} s")
            time.sleep(0.05)

    def interrupt(self) -> None:
        """As a terminal's Ctrl-C does it: SIGINT to the driver and everything it started."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to the driver; its Ray, in process sessions of its own, ends with it."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self, timeout: float = 200) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=timeout)
        return self.process.returncode, output


@pytest.fixture
def running() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(*arguments: str) -> Running:
        started.append(Running(*arguments))
        return started[-1]

    yield start
    for command in started:
        if command.process.poll() is None:
            command.kill()


def ledger_lines(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of a ledger that may be growing."""
    path = folder / "ledger.jsonl"
    content = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]


def trials(folder: Path) -> list[dict[str, Any]]:
    """The ledger's lines of trials that translate."""
    return [line for line in ledger_lines(folder) if line["kind"] == "trial" and line["split"] != SPEED_SPLIT]


def timed(folder: Path) -> list[dict[str, Any]]:
    """The ledger's lines of frontier points that were timed."""
    return [line for line in ledger_lines(folder) if line["kind"] == "trial" and line["split"] == SPEED_SPLIT]
