"""Work in a process of its own on a Ray cluster: what it answers, tells and raises, and that it may be lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ray.conftest import ROOT, environment


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("outcomes") / "outcomes.json"
    command = [sys.executable, "-m", "tests.support.own_process_example", str(file)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def test_what_the_work_tells_is_heard_here_in_order_and_while_it_works(outcomes: dict[str, Any]) -> None:
    assert outcomes["elsewhere"]
    assert outcomes["heard"] == [1, 2, 3, 4]
    assert outcomes["heard_over"] > 0.5


def test_what_the_work_raises_is_raised_here_after_what_it_told(outcomes: dict[str, Any]) -> None:
    assert outcomes["raised"] == ["it did not go well", [1]]


def test_what_the_work_is_warned_of_is_warned_of_here(outcomes: dict[str, Any]) -> None:
    assert outcomes["warned"] == [3, "there were 3"]


def test_a_lost_process_is_a_lost_connection(outcomes: dict[str, Any]) -> None:
    assert outcomes["lost"].startswith("a process that worked for this trial was lost")


def test_a_dead_node_is_a_lost_connection_too(tmp_path: Path) -> None:
    file = tmp_path / "outcome.txt"
    command = [sys.executable, "-m", "tests.support.dead_node_example", str(file)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert file.read_text(encoding="utf-8").startswith("a process that worked for this trial was lost")
