"""The studies in studies/ are listed by a dry run and found sound by the doctor, on headers of their models and few
pairs."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from orchestrator.doctor.study_checks import study_findings
from orchestrator.search import dry_run as module
from orchestrator.search.dry_run import dry_run
from orchestrator.study.spec import StudySpec, spec_from_mapping
from orchestrator.study.yaml_file import read_study
from tests.support.paths import ROOT
from tests.support.published_models import MODELS
from workers.reading.formats.alma import named_direction

STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
# Gigabytes of the text model in 16 bits, as its parameters are published.
SIZES = {
    "alma-7b": 13.48,
    "gemma-3-4b": 7.76,
    "qwen-1.5b-alma": 3.09,
    "qwen-alma": 0.99,
    "tower-7b": 13.48,
    "tower-mistral-7b": 14.50,
}
SENTENCES = {
    "cs": "Starosta města dnes otevřel novou školu, na kterou děti čekaly několik let.",
    "de": "Der Bürgermeister hat heute eine neue Schule eröffnet, auf die die Kinder lange gewartet haben.",
    "en": "The mayor has opened a new school today, which the children had been waiting for.",
    "ru": "Мэр города сегодня открыл новую школу, которую дети ждали несколько лет.",
    "zh": "市长今天为一所新学校揭幕，孩子们已经等了好几年。",
}
ROWS = 24


def read(path: Path) -> StudySpec:
    return spec_from_mapping(read_study(path))


@pytest.fixture
def beside_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to run in, with a few rows in each file that the studies name, every one a sentence of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "COUNT_SECONDS", 0.05)
    monkeypatch.setattr(module, "gpu_memory", lambda: None)
    # Wherever this runs.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**12, used=0, free=10**12))
    files = {file for path in STUDIES for file in files_of(read(path))}
    for number, name in enumerate(sorted(files)):
        pair = str(named_direction(Path(name))).split("-")
        rows = [
            {"translation": {code: f"{number * ROWS + row}: {SENTENCES[code]}" for code in pair}} for row in range(ROWS)
        ]
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        lines = "\n".join(map(json.dumps, rows)) if "train" in name else json.dumps(rows)
        Path(name).write_text(lines + "\n", encoding="utf-8")
    yield tmp_path


def files_of(spec: StudySpec) -> set[str]:
    trained = [source.file for source in spec.training]
    return {*spec.data_files, *spec.test_files, *spec.calibration_files, *trained}


def test_each_has_a_size() -> None:
    assert {path.stem for path in STUDIES} == set(SIZES)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_dry_run_lists_it_and_the_doctor_finds_it_sound(path: Path, beside_data: Path) -> None:
    spec = read(path)
    model = MODELS[spec.model].write(beside_data / "model")
    spec = spec_from_mapping({**spec.to_json(), "model": str(model)})
    out = io.StringIO()
    dry_run(spec, Console(file=out, width=160))
    lines = out.getvalue().splitlines()
    said = {line.split()[0]: line for line in lines if line}
    number, unit = said["model"].split()[1:3]
    assert float(number) / {"GB,": 1, "MB,": 1000}[unit] == pytest.approx(SIZES[path.stem], abs=0.01)
    assert not [line for line in lines if line.startswith(("refused", "warning"))]
    assert (
        sum("(reference)" in line for line in lines) == 6 and sum(line.startswith(" profile") for line in lines) >= 10
    )
    assert "60: 7 listed above, 53 that the profile and the sampler choose" in said["trials"]
    assert ("the 439 tensors that read pictures" in out.getvalue()) == ("gemma" in path.stem)
    assert ("made a baseline first by alma-full" in said["model"]) == bool(spec.baseline)
    findings = {one.what: one for one in study_findings(spec.absolute(), 141_000_000_000)[0]}
    assert {one.level for one in findings.values()} == {"ok"}
    assert not (beside_data / "runs").exists()
