"""The scripts in examples/ run on the shipped model: one after another as a reader would run them, and one on the Ray
that tests share, without a start of its own."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ray.conftest import environment
from tests.support.paths import ROOT


def example(name: str, folder: Path) -> list[str]:
    """What an example prints."""
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_search_from_python_keeps_a_model_that_loads(tmp_path: Path) -> None:
    said = example("search_from_python", tmp_path / "run")
    assert "times smaller" in said[-2] and said[-1].startswith("These data can't tell")
    (translated,) = example("load_a_kept_model", tmp_path / "run")
    assert translated.startswith("gptq(bits=4") and "Hund" in translated


def test_a_chain_is_spelt_as_an_anchor(
    shared_ray: None, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = str(ROOT / "examples" / "chain_as_anchor.py")
    monkeypatch.setattr(sys, "argv", [script, str(runs / "run")])
    runpy.run_path(script, run_name="__main__")
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trial ")]
    assert [line.split(":")[0] for line in said[-3:]] == ["trial 0", "trial 1", "trial 2"]
    assert "remove_layers(count=1" in said[-1] and "+ gptq(bits=4" in said[-1] and "+ embeddings(bits=8" in said[-1]


def test_examples_are_short() -> None:
    for file in (ROOT / "examples").glob("*.py"):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 25, file
