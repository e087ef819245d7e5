"""What a page says of measured sources in the training data: what was looked for in which files, and when it says
nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.finish.results_page import contamination
from orchestrator.ledger.names import SYNTHETIC
from orchestrator.ledger.records import create_ledger, read_ledger
from orchestrator.report.markdown.content import Contamination
from orchestrator.search.prepared import Study, header, prepare
from orchestrator.study.spec import StudySpec
from orchestrator.study.training import synthetic_file
from orchestrator.study.values import TrainingSource

CAT = ("A cat sleeps.", "Eine Katze schläft.")
BIRD = ("A bird sings.", "Ein Vogel singt.")
DOG = ("A dog runs.", "Ein Hund rennt.")


def write(file: Path, *pairs: tuple[str, str]) -> Path:
    file.parent.mkdir(exist_ok=True)
    rows = [json.dumps({"src": source, "ref": target, "langs": "en-de"}) for source, target in pairs]
    file.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return file


def begun(tmp_path: Path, *pairs: tuple[str, str], **asked: Any) -> Study:
    """A study whose ledger has no trial yet; the model wrote a pair, where one is asked for."""
    training = (TrainingSource(str(write(tmp_path / "train.jsonl", *pairs))),) if pairs else ()
    dev = write(tmp_path / "dev.jsonl", DOG)
    spec = StudySpec(out=str(tmp_path / "run"), data=str(dev), training=training, **asked)
    if spec.synthetic_pairs:
        write(synthetic_file(spec), BIRD)
    study = prepare(spec, Console(quiet=True))
    create_ledger(spec.folder, header(study))
    return study


def said(study: Study) -> Contamination:
    return contamination(read_ledger(study.spec.folder), study.spec, study.data)


def test_without_training_there_is_nothing_to_look_for(tmp_path: Path) -> None:
    assert said(begun(tmp_path)) == Contamination("The study has no training data.", 0)


def test_the_files_are_named_and_what_was_left_out_is_counted(tmp_path: Path) -> None:
    study = begun(tmp_path, CAT, DOG, skip_bad_rows=True)
    found = said(study)
    assert found.left_out == 1
    assert study.training is not None
    assert found.said.endswith(
        f"Looked for again in train.jsonl ({study.training.data.digest}): 1 such text left out of the training."
    )


def test_what_the_model_wrote_is_looked_through_too(tmp_path: Path) -> None:
    study = begun(tmp_path, CAT, synthetic_pairs=1)
    found = said(study)
    assert f"Looked for again in train.jsonl, {SYNTHETIC} (" in found.said and found.left_out == 0
    synthetic_file(study.spec).unlink()
    found = said(study)
    assert found.left_out is None
    assert found.said.endswith(
        f"train.jsonl, {SYNTHETIC} has changed since the study began, so this says nothing of it."
    )


def test_a_file_that_is_gone_is_no_clean_file(tmp_path: Path) -> None:
    study = begun(tmp_path, CAT)
    Path(study.spec.training[0].file).unlink()
    found = said(study)
    assert found.left_out is None and "This was not looked for again in train.jsonl: " in found.said
