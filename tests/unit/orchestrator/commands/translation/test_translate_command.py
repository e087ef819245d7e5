"""`mtpareto translate`: a line out for a line in, in order, as they come, by the shipped model."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.commands.translation.progress import Progress
from orchestrator.commands.translation.translate import TranslateRequest, translate_stream
from search_spaces.errors import StudyError
from tests.support.paths import CAPTIONS, ROOT
from workers.translation.decoding import Decoding
from workers.translation.line_reader import LineReader
from workers.translation.line_translator import TranslatedLine
from workers.translation.prompt_file import Asking, write_asking

REQUEST = TranslateRequest(str(CAPTIONS), "en", "deu", device_map="cpu")
DOG, HUND = "A dog runs in the park.", "Ein Hund rennt im Park."


def translated(request: TranslateRequest, text: bytes, folder: Path) -> str:
    (folder / "in").write_bytes(text)
    with (folder / "in").open("rb") as lines, (folder / "out").open("wb") as out:
        assert translate_stream(request, LineReader(lines.fileno()), out.fileno()) == 0
    return (folder / "out").read_text(encoding="utf-8")


def test_a_line_out_for_each_line_in_and_progress_beside_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = replace(REQUEST, batch_size=2)
    text = "".join(f"{DOG}\n" if number % 3 else "\n" for number in range(20)) + "Two men are playing football."
    out = translated(request, text.encode(), tmp_path)
    lines = out.split("\n")
    assert lines.pop() == ""
    assert lines == [*(HUND if number % 3 else "" for number in range(20)), "Zwei Männer spielen Football."]
    said = capsys.readouterr()
    assert said.out == ""
    assert "21 lines translated in " in said.err


def test_nothing_in_is_nothing_out(tmp_path: Path) -> None:
    assert translated(REQUEST, b"", tmp_path) == ""


def test_a_line_comes_out_while_the_next_is_not_written_yet() -> None:
    (source, writing), (reading, out) = os.pipe(), os.pipe()
    found: list[bytes] = []

    def talk() -> None:
        for _ in range(2):
            os.write(writing, f"{DOG}\n".encode())
            found.append(os.read(reading, 1000))
        os.close(writing)

    talking = threading.Thread(target=talk)
    talking.start()
    assert translate_stream(REQUEST, LineReader(source), out) == 0
    talking.join()
    assert found == [f"{HUND}\n".encode()] * 2


def test_it_ends_when_nobody_reads_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").write_text(f"{DOG}\n" * 3)
    reading, out = os.pipe()
    os.close(reading)
    with (tmp_path / "in").open("rb") as lines:
        assert translate_stream(REQUEST, LineReader(lines.fileno()), out) == 0
    assert "nobody reads" in capsys.readouterr().err


def test_what_prompt_json_says_holds_unless_the_command_says_otherwise(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for file in CAPTIONS.iterdir():
        (model / file.name).symlink_to(file)
    write_asking(model, Asking(Decoding(2, 4, "alma"), ("en-de",)))
    request = replace(REQUEST, model=str(model))
    assert len(translated(request, f"{DOG}\n".encode(), tmp_path)) < len(HUND)
    assert translated(replace(request, max_new_tokens=32), f"{DOG}\n".encode(), tmp_path) == f"{HUND}\n"


def test_a_pair_that_was_not_measured_is_translated_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for file in CAPTIONS.iterdir():
        (model / file.name).symlink_to(file)
    write_asking(model, Asking(Decoding(32, 4, "alma"), ("en-cs",)))
    assert translated(replace(REQUEST, model=str(model)), f"{DOG}\n".encode(), tmp_path) == f"{HUND}\n"
    assert "the study measured en-cs, and not en-de" in caplog.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: replace(one, source="qq"), "unknown language code 'qq'"),
        (lambda one: replace(one, batch_size=0), "batch_size is 0"),
        (lambda one: replace(one, model="nowhere"), "nowhere is no folder"),
        (lambda one: replace(one, model="nowhere@knee"), "nowhere"),
        (lambda one: replace(one, device_map="abacus"), "abacus"),
    ],
)
def test_what_can_not_be_done_is_refused_with_nothing_written(
    change: Callable[[TranslateRequest], TranslateRequest], said: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=said):
        translated(change(REQUEST), f"{DOG}\n".encode(), tmp_path)
    assert (tmp_path / "out").read_bytes() == b""


def test_cut_lines_are_named_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress()
    progress.add([TranslatedLine("a", 1, False), TranslatedLine("b", 3, True), TranslatedLine("", 0, False)])
    progress.add([TranslatedLine("c", 1, True)] * 7)
    progress.end(None)
    assert "translated in pieces: line 2" in caplog.text
    assert "cut at the length limit: 8 lines (2, 4, 5, 6, 7, …)" in caplog.text


def test_the_command_writes_translations_alone_to_its_output() -> None:
    command = [sys.executable, "-m", "orchestrator.cli", "translate", "--model", str(CAPTIONS)]
    run = subprocess.run(
        [*command, "--source", "eng", "--target", "de", "--batch-size", "4"],
        cwd=ROOT, input=f"{DOG}\n\n{DOG}\n", capture_output=True, text=True,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (0, f"{HUND}\n\n{HUND}\n"), run.stderr
    refused = subprocess.run(
        [*command, "--source", "eng", "--target", "en"], cwd=ROOT, input="x\n", capture_output=True, text=True
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: unknown pair")
