"""A built wheel works away from a checkout: its commands, its shipped model and data, and nothing called `main`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

KEPT = ("mtpareto", "orchestrator", "mlflow_tracking", "workers", "search_spaces", "models", "data")
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in KEPT:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", str(folder)]
    subprocess.run([*command, str(folder / "source")], check=True)
    return next(folder.glob("mtpareto-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content alone in a folder; what it requires is this environment's."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(installed: Path, folder: Path, *arguments: str) -> str:
    environ = os.environ | {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_holds_the_packages_the_shipped_files_and_no_other_module(installed: Path) -> None:
    packages = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert packages == {"mtpareto", "orchestrator", "mlflow_tracking", "workers", "search_spaces"}
    for top in packages:
        built, source = (
            {str(path.relative_to(root)) for path in (root / top).rglob("*.py")} for root in (installed, ROOT)
        )
        assert built == source
    for name in ("orchestrator/report/page.css", "orchestrator/report/page.js", "workers/training/zero/zero2.json"):
        assert (installed / name).is_file()
    assert (installed / "mtpareto" / "py.typed").is_file()
    assert (installed / "mtpareto" / "shipped" / "captions" / "model.safetensors").is_file()


def test_its_model_and_data_are_found_from_anywhere(installed: Path, tmp_path: Path) -> None:
    code = (
        "import orchestrator.study.shipped as s; print(s.__file__); "
        "print(all(path.exists() for path in (s.SHIPPED_MODEL, s.SHIPPED_SEGMENTS, s.SHIPPED_CALIBRATION)))"
    )
    file, found = run(installed, tmp_path, "-c", code).splitlines()
    assert Path(file).is_relative_to(installed) and found == "True"


def test_its_commands_measure_and_search_from_anywhere(installed: Path, tmp_path: Path) -> None:
    rows = (ROOT / "data" / "subset.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "dev.jsonl").write_text("".join(rows[:24]), encoding="utf-8")
    common = ("--data", "dev.jsonl", "--max-new-tokens", "24")
    command = ("-m", "orchestrator.cli")
    assert "chrf" in run(installed, tmp_path, *command, "measure", *common, "--outdir", "one", "--quant", "4bit")
    assert json.loads((tmp_path / "one" / "summary.json").read_text(encoding="utf-8"))["measurement"]["scores"]
    run(
        installed,
        tmp_path,
        *command,
        "search",
        *common,
        "--space",
        "bit-width",
        "--trials",
        "2",
        "--no-speed",
        "--out",
        "two",
    )
    assert (tmp_path / "two" / "report.html").is_file()
