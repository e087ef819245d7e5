"""Where bytes are, of the shipped model: read from the files of what was kept, predicted for what was not."""

from __future__ import annotations

from pathlib import Path

from orchestrator.finish.byte_parts import base_table, kept_parts, predicted_parts
from orchestrator.study.shipped import SHIPPED_MODEL
from orchestrator.study.spec import StudySpec
from search_spaces.methods.quantizers import RTN
from search_spaces.methods.trainers import Recover
from workers.checkpoints.model_files import bytes_on_disk


def test_the_shipped_models_parts_are_all_of_its_bytes(tmp_path: Path) -> None:
    base = base_table(StudySpec(data="dev.jsonl", out=str(tmp_path)))
    assert base is not None
    read = kept_parts(SHIPPED_MODEL)
    assert sum(read.parts.values()) == bytes_on_disk(SHIPPED_MODEL) and not read.predicted
    assert predicted_parts(base, ()).parts == read.parts


def test_a_predicted_adapter_has_its_own_part(tmp_path: Path) -> None:
    base = base_table(StudySpec(data="dev.jsonl", out=str(tmp_path)))
    assert base is not None
    alone = predicted_parts(base, (RTN(bits=4),))
    beside = predicted_parts(base, (RTN(bits=4), Recover()))
    assert alone.predicted and "adapter" not in alone.parts
    assert beside.parts["adapter"] > 0
    assert {part: size for part, size in beside.parts.items() if part != "adapter"} == alone.parts


def test_a_base_model_that_is_not_here_is_not_fetched(tmp_path: Path) -> None:
    spec = StudySpec(model="nobody/not-on-this-machine", data="dev.jsonl", out=str(tmp_path))
    assert base_table(spec) is None
