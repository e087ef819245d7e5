"""What a local model is known by: all bytes of small files, samples of large ones."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from orchestrator.study.shipped import SHIPPED_MODEL
from search_spaces.candidate import BaseModel, is_of_content
from workers.checkpoints import content
from workers.checkpoints.base_model import open_base
from workers.checkpoints.content import BLOCK, BLOCKS, blocks_of, content_revision
from workers.checkpoints.model_files import CONFIG, SINGLE_WEIGHTS

ROWS = 4096


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder of two tensors of 2 MiB each."""
    (tmp_path / CONFIG).write_text(json.dumps({"model_type": "llama"}))
    generator = torch.Generator().manual_seed(1)
    save_file(
        {name: torch.randn(ROWS, 128, generator=generator) for name in ("first", "second")}, tmp_path / SINGLE_WEIGHTS
    )
    return tmp_path


def _with_large_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "LARGE", 2**20)


def _change(folder: Path, place: int) -> None:
    file = folder / SINGLE_WEIGHTS
    held = bytearray(file.read_bytes())
    held[place] ^= 1
    file.write_bytes(held)


def test_small_files_count_whole(model: Path) -> None:
    before = content_revision(model)
    assert before.startswith("sha256:")
    _change(model, -(ROWS * 128 * 4) - 300_000)
    assert content_revision(model) not in (before, "")


def test_large_weights_count_by_header_size_and_samples_of_each_tensor(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = content_revision(model)
    _with_large_files(monkeypatch)
    before = content_revision(model)
    assert before.startswith("sampled:")
    assert is_of_content(before)
    assert BaseModel("/anywhere", before).identity() == before
    assert content_revision(model, whole=True) == whole
    # The last byte of each tensor is in a sample; one between two samples is in none.
    second_begins = -(ROWS * 128 * 4)
    _change(model, second_begins + 300_000)
    assert content_revision(model) == before
    for place in (-1, second_begins - 1):
        _change(model, place)
        assert content_revision(model) != before
        _change(model, place)
    assert content_revision(model) == before


def test_other_files_of_a_large_model_count_whole(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_large_files(monkeypatch)
    before = content_revision(model)
    (model / "tokenizer.json").write_text("{}")
    changed = content_revision(model)
    (model / "tokenizer.json").write_text("[]")
    assert len({before, changed, content_revision(model)}) == 3


def test_tensors_that_were_trained_a_little_are_told_apart(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_large_files(monkeypatch)
    tensors = load_file(model / SINGLE_WEIGHTS)
    before = content_revision(model)
    # One value in a hundred moves.
    moved = torch.rand(ROWS, 128, generator=torch.Generator().manual_seed(2)) < 0.01
    save_file({**tensors, "first": tensors["first"] + 1e-3 * moved}, model / SINGLE_WEIGHTS)
    assert content_revision(model) != before


@pytest.mark.parametrize(
    ("begin", "end"), [(0, 1), (7, 7), (0, BLOCK * BLOCKS), (10, 10 + BLOCK * BLOCKS + 1), (3, 99_999_999)]
)
def test_samples_reach_from_the_first_byte_to_the_last(begin: int, end: int) -> None:
    found = list(blocks_of(begin, end))
    assert found[0][0] == begin
    assert found[-1][0] + found[-1][1] == end
    assert sum(length for _, length in found) <= BLOCK * BLOCKS
    assert all(place + length <= following for (place, length), (following, _) in itertools.pairwise(found))


def test_an_older_study_of_a_large_model_is_known_by_all_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = open_base(str(SHIPPED_MODEL)).base.revision
    _with_large_files(monkeypatch)
    new = open_base(str(SHIPPED_MODEL)).base.revision
    assert new.startswith("sampled:") and whole.startswith("sha256:")
    assert open_base(str(SHIPPED_MODEL), whole).base.revision == whole
    assert open_base(str(SHIPPED_MODEL), new).base.revision == new
