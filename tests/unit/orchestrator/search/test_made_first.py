"""What is made before a search: the study that makes a baseline, what it leaves, and what is said where it did not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.finish.title import title_of
from orchestrator.ledger.names import BASELINE
from orchestrator.ledger.records import read_ledger
from orchestrator.search.made_first import is_begun, study_of, with_made, with_synthetic_pairs
from orchestrator.search.prepared import prepare
from orchestrator.study.spec import StudySpec, spec_from_mapping
from search_spaces.errors import StudyError
from tests.support.examples import BASE
from tests.support.recorded_run import Made, write_data, write_run


def made_by(folder: Path, trials: list[Made]) -> StudySpec:
    """A study whose baseline's own study ended with these trials; the steps are those of the second."""
    data = write_data(folder / "dev.jsonl")
    run = write_run(folder / "run" / BASELINE, {"dev": data}, trials, speed=False)
    steps = next((one.candidate.steps for one in read_ledger(run).on("dev") if one.candidate.steps), ())
    return StudySpec(data=str(folder / "dev.jsonl"), out=str(folder / "run"), baseline=steps)


def test_the_study_of_a_baseline_tries_its_steps_alone_and_keeps_what_they_make() -> None:
    spec = spec_from_mapping(
        {
            "data": "dev.jsonl", "test": "test.jsonl", "out": "runs/a", "training": ["pairs.jsonl"], "trials": 40,
            "baseline": [{"recipe": "alma-full"}], "target": "chrf>=99%", "hours": 2, "seed": 3,
            "synthetic_pairs": 2000,
        }
    )  # fmt: skip
    first = study_of(spec)
    assert (first.trials, first.anchors, first.baseline) == (2, (spec.baseline,), ())
    assert (first.out, first.keep, first.target, first.hours) == ("runs/a/baseline", "all", None, None)
    # It trains on the pairs of people alone.
    assert (spec.synthetic_pairs, first.synthetic_pairs) == (2000, 0)
    assert (first.data, first.test, first.training, first.seed) == (spec.data, spec.test, spec.training, 3)
    # Nothing runs beside it, so it has a whole GPU, or as many as a trial of the search.
    assert (first.max_concurrent, first.gpus_per_trial) == (1, None)
    assert study_of(replace(spec, gpus_per_trial=0.25)).gpus_per_trial is None
    assert study_of(replace(spec, gpus_per_trial=2.0)).gpus_per_trial == 2.0
    # One store of MLflow has both.
    assert first.mlflow_uri == spec.mlflow_uri
    assert spec_from_mapping(spec.to_json()) == spec


def test_what_was_made_is_the_model_of_the_search(tmp_path: Path) -> None:
    spec = made_by(tmp_path, [Made(10_000, bits=None), Made(10_000, bits=8)])
    with pytest.raises(StudyError, match=r"has no baseline yet; mtpareto resume .*baseline goes on"):
        with_made(spec)
    folder = tmp_path / "run" / BASELINE / "artefacts" / "trial-1-rtn"
    folder.mkdir(parents=True)
    found = with_made(replace(spec, revision="main"))
    assert (found.model, found.revision, found.baseline) == (str(folder), None, ())
    assert found.out == spec.out


def test_pages_are_headed_with_what_the_baseline_was_made_of(tmp_path: Path) -> None:
    assert title_of(StudySpec(data="dev.jsonl", out=str(tmp_path / "run"))) == "captions, space joint"
    spec = made_by(tmp_path, [Made(10_000, bits=None), Made(10_000, bits=8)])
    base = Path(BASE.name).name
    assert title_of(replace(spec, model="runs/a/baseline/artefacts/trial-1-rtn")) == (
        f"{base} after rtn 8-bit g64, space joint"
    )


def test_a_search_of_which_there_is_only_the_baseline_says_how_it_goes_on(tmp_path: Path) -> None:
    spec = made_by(tmp_path, [Made(10_000, bits=None), Made(10_000, bits=8)])
    with pytest.raises(StudyError, match="has no search yet, only the study that makes its baseline"):
        read_ledger(spec.folder)


def test_a_folder_with_the_baseline_of_another_study_is_refused(tmp_path: Path) -> None:
    spec = made_by(tmp_path, [Made(10_000, bits=None), Made(10_000, bits=8)])
    assert not is_begun(study_of(replace(spec, out=str(tmp_path / "new"))))
    with pytest.raises(StudyError, match="has the baseline of another study"):
        is_begun(study_of(spec))


def test_a_study_without_synthetic_pairs_has_none_written(tmp_path: Path) -> None:
    write_data(tmp_path / "dev.jsonl")
    spec = StudySpec(data=str(tmp_path / "dev.jsonl"), out=str(tmp_path / "run"), check_languages=False)
    study = prepare(spec, Console(quiet=True))
    assert with_synthetic_pairs(study, Console(quiet=True)) is study
    assert not study.spec.folder.exists()
