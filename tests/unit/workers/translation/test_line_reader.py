"""Lines come in order and whole however the bytes come, and never more than asked for."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.translation.line_reader import CHUNK, LineReader


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def of_file(path: Path, content: bytes, most: int) -> list[list[str]]:
    path.write_bytes(content)
    with path.open("rb", buffering=0) as stream:
        reader = LineReader(stream.fileno())
        return list(iter(lambda: reader.take(most, 0.0), []))


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\nb", ["a", "b"]),
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\n\r\nb\r", ["a", "", "b"]),
        ("ä\u2028ö\n\x0bc\n".encode(), ["ä\u2028ö", "\x0bc"]),
        (b"a\xffb\n", ["a\ufffdb"]),
    ],
)
def test_a_line_ends_at_a_newline_alone(tmp_path: Path, content: bytes, lines: list[str]) -> None:
    assert [line for batch in of_file(tmp_path / "in", content, 100) for line in batch] == lines


def test_batches_are_full_but_the_last(tmp_path: Path) -> None:
    many = [f"line {number} " + "ä" * (number % 90) for number in range(2000)]
    batches = of_file(tmp_path / "in", "\n".join(many).encode(), 64)
    assert [line for batch in batches for line in batch] == many
    assert {len(batch) for batch in batches[:-1]} == {64}


def test_a_line_longer_than_what_is_read_at_once_stays_whole(tmp_path: Path) -> None:
    long = "x" * (3 * CHUNK + 5)
    assert of_file(tmp_path / "in", f"{long}\ny\n".encode(), 1) == [[long], ["y"]]


def test_what_a_pipe_has_is_given_when_no_more_comes(pipe: tuple[int, int]) -> None:
    reader = LineReader(pipe[0])
    os.write(pipe[1], b"one\ntwo\nthr")
    assert reader.take(10, 0.01) == ["one", "two"]
    late = threading.Timer(0.1, lambda: (os.write(pipe[1], b"ee\n"), os.close(pipe[1])))
    late.start()
    assert reader.take(10, 0.0) == ["three"]
    late.join()
    assert reader.take(10, 0.0) == []


def test_no_more_is_read_than_asked_for_and_a_chunk(tmp_path: Path) -> None:
    file = tmp_path / "in"
    file.write_bytes(b"line\n" * 100_000)
    with file.open("rb", buffering=0) as stream:
        assert LineReader(stream.fileno()).take(10, 0.0) == ["line"] * 10
        assert stream.tell() == CHUNK
