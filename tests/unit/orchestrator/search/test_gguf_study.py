"""A study of a GGUF file: what is said first, what the ledger keeps, and that a dry run writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.finish.model_card import model_card
from orchestrator.ledger.records import read_ledger
from orchestrator.number_format import Unit
from orchestrator.report.sections.conditions import study_facts
from orchestrator.results.points import scored_alone
from orchestrator.search.prepared import header, prepare
from orchestrator.study.shipped import SHIPPED_MODEL
from orchestrator.study.spec import StudySpec
from search_spaces.errors import ModelFilesError, StudyError
from tests.support.gguf_files import Type, write_gguf
from tests.support.paths import DATA
from tests.support.recorded_run import Made, write_data, write_run
from workers.checkpoints.gguf_header import read_gguf, spell_types
from workers.checkpoints.model_files import bytes_on_disk
from workers.loading.opening import origin_of

GRID = "a baseline on a 4-bit grid makes 4 bits look free"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gguf") / "captions.gguf"
    write_gguf(SHIPPED_MODEL, out, lambda name: Type.Q4_0)
    return out


def spec_of(file: Path, folder: Path) -> StudySpec:
    data = str(DATA / "subset.jsonl")
    return StudySpec(model=str(file), data=data, prompt="alma", trials=3, out=str(folder / "run")).absolute()


def prepared(spec: StudySpec, dry: bool) -> tuple[str, dict[str, object]]:
    console = Console(width=500)
    with console.capture() as said:
        study = prepare(spec, console, dry=dry)
    return said.get(), dict(header(study))


def test_a_dry_run_says_what_the_file_is_and_writes_nothing(file: Path, tmp_path: Path) -> None:
    spec = spec_of(file, tmp_path)
    said, _ = prepared(spec, dry=True)
    assert f"model: {spell_types(read_gguf(file))}" in said
    assert GRID in said
    assert f"written once as a plain one to {spec.store_folder}" in said
    assert list(tmp_path.iterdir()) == []


def test_the_ledger_and_the_pages_keep_what_it_was(file: Path, tmp_path: Path) -> None:
    spec = spec_of(file, tmp_path)
    said, record = prepared(spec, dry=False)
    assert "tensors to bfloat16" in said
    (made,) = [folder for folder in spec.store_folder.iterdir() if folder.is_dir()]
    base = record["base"]
    assert isinstance(base, dict)
    # The baseline's bytes are the folder's; the file's own are in the words beside it.
    assert (base["name"], base["bytes"]) == (str(file), bytes_on_disk(made))
    assert base["revision"].endswith("+gguf1")
    conditions = record["conditions"]
    assert isinstance(conditions, dict)
    origin = conditions["base model"]
    assert origin == origin_of(str(file))
    assert GRID in origin and f"{file.stat().st_size / 1e6:,.1f} MB" in origin
    data = {"dev": write_data(tmp_path / "dev.jsonl")}
    run = write_run(tmp_path / "recorded", data, [Made(10**7, 0.0, None)])
    results = scored_alone(read_ledger(run).on("dev"), "chrf", 0.0)
    facts = study_facts(results, data["dev"], None, None, record, Unit("MB", 10**6))
    assert GRID in facts
    assert GRID in model_card(results.points[0], None, run, origin)


def test_a_disk_without_room_and_a_damaged_file_are_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.loading import opening

    monkeypatch.setattr(opening.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10**6})())
    with pytest.raises((ModelFilesError, StudyError), match=r"has room for 1 MB; free some, or name another folder"):
        prepared(spec_of(file, tmp_path), dry=False)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(ModelFilesError, match="cut short"):
        prepared(spec_of(cut, tmp_path), dry=True)
