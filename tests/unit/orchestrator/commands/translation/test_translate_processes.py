"""`mtpareto translate` with a process for each device: what one process writes, and nothing left of them at the end."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from orchestrator.commands.translation import processes
from orchestrator.commands.translation.processes import Loading, translate_on
from orchestrator.commands.translation.translate import TranslateRequest, translate_stream
from search_spaces.errors import StudyError
from tests.support.paths import CAPTIONS
from workers.failures.table import MachineError
from workers.translation.decoding import Decoding
from workers.translation.line_reader import LineReader
from workers.translation.line_translator import TranslatedLine
from workers.translation.prompt_file import Asking

ANIMALS = ("dog", "cat", "horse", "bird", "man", "woman")
LINES = [f"A {animal} runs in the {place}." for place in ("park", "street") for animal in ANIMALS]
TEXT = "\n".join([*LINES[:5], "", " ", " ".join(LINES * 6), *LINES[5:]])
TWO = ["cpu", "cpu"]
LOADING = Loading(CAPTIONS, Asking(Decoding(32, 2)), "en", "de", trust_remote_code=False)


def test_two_processes_write_what_one_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").write_text(TEXT, encoding="utf-8")
    found, said = {}, {}
    for devices in ("cpu", "cpu,cpu"):
        request = TranslateRequest(str(CAPTIONS), "en", "de", batch_size=1, max_new_tokens=48, devices=devices)
        with (tmp_path / "in").open("rb") as lines, (tmp_path / devices).open("wb") as out:
            assert translate_stream(request, LineReader(lines.fileno()), out.fileno()) == 0
        found[devices], said[devices] = (tmp_path / devices).read_text("utf-8"), capsys.readouterr().err
    assert found["cpu,cpu"] == found["cpu"]
    lines_out = found["cpu"].split("\n")
    assert len(lines_out) == len(TEXT.split("\n")) + 1 and lines_out[5:7] == ["", ""] and len(set(lines_out)) > 8
    assert "a process each" in said["cpu,cpu"] and "process" not in said["cpu"]
    assert "15 lines translated in" in said["cpu"] and "15 lines translated in" in said["cpu,cpu"]
    assert multiprocessing.active_children() == []


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_all_gpus_translate_unless_some_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").write_text(TEXT, encoding="utf-8")
    found = set()
    for devices in (None, "cuda:1"):
        request = TranslateRequest(str(CAPTIONS), "en", "de", batch_size=1, max_new_tokens=48, devices=devices)
        with (tmp_path / "in").open("rb") as lines, (tmp_path / "out").open("wb") as out:
            assert translate_stream(request, LineReader(lines.fileno()), out.fileno()) == 0
        found.add((tmp_path / "out").read_text("utf-8"))
        assert ("devices   cuda:0, cuda:1" in capsys.readouterr().err) == (devices is None)
    assert len(found) == 1


def test_a_line_comes_out_before_the_next_is_there_and_a_lost_process_ends_all() -> None:
    (source, writing), written = os.pipe(), list[str]()
    lines = LineReader(source)
    os.write(writing, b"A dog runs in the park.\n")

    def write(found: list[TranslatedLine]) -> None:
        written.extend(line.text for line in found)
        for child in multiprocessing.active_children():
            child.kill()
        # The other end stays open.
        os.write(writing, b"A dog runs in the park.\n")

    with pytest.raises(MachineError, match=r"the process on cpu was lost .* exit code -9"):
        translate_on(TWO, LOADING, lambda: lines.take(8, 0.2), write, lambda: None)
    assert written == ["Ein Hund rennt im Park."]
    assert multiprocessing.active_children() == []


def test_what_can_not_be_loaded_is_said_with_its_device_and_what_can_not_be_read_too(tmp_path: Path) -> None:
    def refuse() -> list[str]:
        raise OSError(5, "Input/output error")

    with pytest.raises(StudyError, match=rf"^cpu: .*{tmp_path}"):
        translate_on(TWO, replace(LOADING, folder=tmp_path), lambda: [], lambda found: None, lambda: None)
    with pytest.raises(OSError, match="Input/output error"):
        translate_on(TWO, LOADING, refuse, lambda found: None, lambda: None)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("devices", "device_map", "said"),
    [
        ("abacus", "auto", "--devices names 'abacus'; say devices such as"),
        ("cpu,", "auto", "--devices names ''"),
        ("cpu,cuda:99", "auto", "--devices names cuda:99, and here there"),
        ("cpu,cpu", "cpu", "--devices and --device-map both say"),
    ],
)
def test_devices_that_can_not_be_are_refused(devices: str, device_map: str, said: str) -> None:
    request = TranslateRequest(str(CAPTIONS), "en", "de", devices=devices, device_map=device_map)
    with pytest.raises(StudyError, match=said):
        translate_stream(request, LineReader(0), 1)


@pytest.mark.parametrize(
    ("device", "seen", "name", "sees"),
    [
        ("cuda:1", None, "cuda:0", "1"),
        ("cuda", None, "cuda:0", "0"),
        ("cuda:1", "4,7", "cuda:0", "7"),
        ("cuda:0", "GPU-8f1a,GPU-22b0", "cuda:0", "GPU-8f1a"),
        ("cpu", "4,7", "cpu", "4,7"),
    ],
)
def test_a_process_sees_its_own_gpu_alone(device: str, seen: str | None, name: str, sees: str) -> None:
    environment = {} if seen is None else {processes.VISIBLE: seen}
    assert processes.alone(device, environment) == name
    assert environment[processes.VISIBLE] == sees
