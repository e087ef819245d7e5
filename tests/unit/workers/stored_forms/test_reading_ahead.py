"""Tensors that threads read ahead: each once, in order, and nothing under way once they are not wanted."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from workers.stored_forms.reading_ahead import read_ahead

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


@pytest.fixture
def files(tmp_path: Path) -> list[tuple[Path, str]]:
    for file in range(2):
        tensors = {f"{file}.{number}": torch.full((64, 8), float(10 * file + number)) for number in range(9)}
        save_file(tensors, tmp_path / f"{file}.safetensors")
    return [(tmp_path / f"{file}.safetensors", f"{file}.{number}") for file in range(2) for number in range(9)]


@pytest.mark.parametrize("device", DEVICES)
def test_every_tensor_comes_once_and_in_order(files: list[tuple[Path, str]], device: str) -> None:
    found = []
    for name, tensor in read_ahead(files, torch.device(device)):
        found.append((name, float((tensor * 2).mean())))
        del tensor
    assert found == [(f"{file}.{number}", 2.0 * (10 * file + number)) for file in range(2) for number in range(9)]


def test_no_thread_stays_where_the_rest_is_not_wanted(files: list[tuple[Path, str]]) -> None:
    ahead = read_ahead(files, torch.device("cpu"))
    assert next(ahead)[0] == "0.0"
    ahead.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reading")]


def test_a_tensor_that_can_not_be_read_is_an_error_where_it_is_wanted(files: list[tuple[Path, str]]) -> None:
    ahead = read_ahead([files[0], (files[0][0], "none such")], torch.device("cpu"))
    assert next(ahead)[0] == "0.0"
    with pytest.raises(Exception, match="none such"):
        next(ahead)
