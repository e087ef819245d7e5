"""A kept model by its run and pick, and how its study asked it: from `prompt.json`, or else from the ledger."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.finish.kept_models import kept_model, split_named
from orchestrator.finish.run_folder import report_again
from orchestrator.ledger.records import LedgerWriter, read_ledger
from search_spaces.errors import StudyError
from search_spaces.methods.quantizers import RTN
from tests.support.examples import measurement, trial
from tests.support.paths import CAPTIONS
from tests.support.recorded_run import Made, write_data, write_run
from workers.translation.prompt_file import read_asking

MADE = (
    Made(10_000_000, 0.0, None),
    Made(4_000_000, 0.05),
    Made(2_000_000, 0.4, 4),
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run whose two models were kept."""
    data = {"dev": write_data(tmp_path / "dev.jsonl")}
    folder = write_run(tmp_path / "run", data, MADE, model=str(CAPTIONS), max_new_tokens=48, batch_size=16, beams=2)
    for number, name in ((1, "rtn-8-bit"), (2, "rtn-4-bit")):
        kept = folder / "artefacts" / f"trial-{number}-{name}"
        kept.mkdir(parents=True)
        shutil.copyfile(CAPTIONS / "config.json", kept / "config.json")
    return folder


def test_a_pick_finds_its_folder_and_how_the_study_asked(run: Path) -> None:
    found = kept_model(run, "best-quality")
    assert found.folder == run / "artefacts" / "trial-1-rtn-8-bit"
    assert found.asking.pairs == ("en-cs", "en-de")
    decoding = found.asking.decoding
    assert (decoding.max_new_tokens, decoding.batch_size, decoding.beams) == (48, 16, 2)
    assert kept_model(run, "2").folder == run / "artefacts" / "trial-2-rtn-4-bit"


def test_the_data_of_the_study_may_be_gone(run: Path) -> None:
    (run.parent / "dev.jsonl").unlink()
    assert kept_model(run, "smallest").point.record.number == 2


def test_the_pages_put_the_prompt_beside_each_kept_model(run: Path) -> None:
    report_again(run, Console(file=io.StringIO()))
    for name in ("trial-1-rtn-8-bit", "trial-2-rtn-4-bit"):
        asking = read_asking(run / "artefacts" / name)
        assert asking is not None
        assert asking.decoding.max_new_tokens == 48
    # What a person changed there stays.
    changed = run / "artefacts" / "trial-1-rtn-8-bit" / "prompt.json"
    changed.write_text(changed.read_text().replace("48", "96"))
    report_again(run, Console(file=io.StringIO()))
    assert kept_model(run, "1").asking.decoding.max_new_tokens == 96


def test_few_shot_examples_are_those_that_the_study_showed(tmp_path: Path) -> None:
    data = {"dev": write_data(tmp_path / "dev.jsonl")}
    shown = write_data(tmp_path / "shown.jsonl", seed=7)
    folder = write_run(tmp_path / "run", data, MADE[:1], calibration=str(tmp_path / "shown.jsonl"))
    found = replace(measurement({"en-de": 40.0, "en-cs": 41.0}), conditions={"prompt": "few-shot"})
    writer = LedgerWriter(str(folder))
    writer.append(trial(found, (RTN(bits=3),), 5), [])
    writer.end(True)
    (folder / "artefacts" / "trial-5-rtn").mkdir(parents=True)
    asking = kept_model(folder, "5").asking
    assert asking.decoding.prompt == "few-shot"
    for langs in ("en-cs", "en-de"):
        of_pair = [one.source for one in shown.segments if one.langs == langs][:3]
        assert [one.source for one in asking.examples if one.langs == langs] == of_pair


def test_held_out_data_have_the_last_word(tmp_path: Path) -> None:
    data = {"dev": write_data(tmp_path / "dev.jsonl"), "test": write_data(tmp_path / "test.jsonl", seed=3)}
    sizes = [(made.size, made.bits) for made in MADE]
    judged = [Made(size, cut, bits, split="test") for (size, bits), cut in zip(sizes, (0.0, 0.5, 0.1), strict=True)]
    folder = write_run(tmp_path / "run", data, [*MADE, *judged], test=str(tmp_path / "test.jsonl"))
    (folder / "artefacts" / "trial-2-rtn").mkdir(parents=True)
    assert kept_model(folder, "best-quality").point.record.number == 2


def test_what_was_not_kept_is_said_with_what_was(run: Path) -> None:
    shutil.rmtree(run / "artefacts" / "trial-2-rtn-4-bit")
    with pytest.raises(StudyError, match=r"trial 2 .* was not kept, that of trial 1 was"):
        kept_model(run, "smallest")
    with pytest.raises(StudyError, match=rf"not copied; it is {read_ledger(run).trials[0].candidate.base.name}"):
        kept_model(run, "0")


def test_a_search_that_has_not_ended_keeps_nothing_yet(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"dev": write_data(tmp_path / "dev.jsonl")}, MADE)
    ledger = folder / "ledger.jsonl"
    ledger.write_text("".join(line for line in ledger.read_text().splitlines(True) if '"end"' not in line[:20]))
    with pytest.raises(StudyError, match=r"keeps no model yet: .* mtpareto resume"):
        kept_model(folder, "knee")


def test_a_model_is_named_by_its_folder_or_by_run_and_pick(run: Path, tmp_path: Path) -> None:
    assert split_named(str(CAPTIONS)) == (CAPTIONS, None)
    assert split_named(f"{run}@<=2GB") == (run, "<=2GB")
    # A folder whose name holds the sign.
    odd = tmp_path / "model@2"
    shutil.copytree(CAPTIONS, odd)
    assert split_named(str(odd)) == (odd, None)
    with pytest.raises(StudyError, match=rf"is a run; name one of its models with @ .* {run}@knee"):
        split_named(str(run))
    with pytest.raises(StudyError, match=r"has no config\.json; name a model's folder"):
        split_named(str(tmp_path))
    with pytest.raises(StudyError, match="is no folder"):
        split_named(str(tmp_path / "nothing"))
