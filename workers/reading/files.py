"""Get the bytes of a data file, plain or gzip, and cut them into lines; other files' bytes are refused."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

from workers.reading.errors import DataError, RowFault
from workers.runtime.not_data import why_not_data

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 1 << 20


def read_content(path: Path) -> bytes:
    """A file's content, unpacked if its first bytes are gzip's, without a byte order mark.

    Raises DataError when the file is missing, not a file, unreadable, empty or a broken gzip file, and when its first
    bytes show that it is not data: a Git LFS pointer, a web page, another archive.
    """
    return b"".join(stream_content(path))


def stream_content(path: Path) -> Generator[bytes, None, None]:
    """The content that `read_content` gives, about a mebibyte at a time. Raises what it raises, when it gets to the
    fault."""
    size = unpacked = line_feeds = 0
    blank = True
    try:
        with path.open("rb") as raw:
            size = path.stat().st_size
            packed = raw.peek(2).startswith(_GZIP_MAGIC)
            try:
                for chunk in _chunks(gzip.GzipFile(fileobj=raw) if packed else raw):
                    if not unpacked:
                        _refuse_other_files(path, chunk)
                    text = chunk if unpacked else chunk.removeprefix(codecs.BOM_UTF8)
                    unpacked, line_feeds = unpacked + len(chunk), line_feeds + chunk.count(b"\n")
                    blank = blank and not text.strip()
                    yield text
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                rule = f"the gzip file is cut off or damaged ({error})"
                value = f"{size} packed bytes, {unpacked} unpacked before the damage"
                way_out = "Fetch it again; a damaged gzip file can't be read in part."
                raise DataError(path, line_feeds + 1, value, rule, way_out) from None
    except FileNotFoundError:
        if path.is_symlink():
            rule = f"this is a link to {path.readlink()}, and there is no such file"
            raise DataError(path, None, None, rule, "Fetch the file that it points to.") from None
        raise DataError(path, None, None, "there is no such file", "Check the path.") from None
    except IsADirectoryError:
        way_out = "Name one file in it; each is a data set of its own."
        raise DataError(path, None, None, "this is a folder, not a file", way_out) from None
    except OSError as error:
        rule = f"the file can't be read: {error.strerror}"
        raise DataError(path, None, None, rule, "Check its permissions and its disk.") from None
    if blank:
        after = " after unpacking" if packed else ""
        rule = f"the file is empty{after}: a data file has at least one row"
        raise DataError(path, None, f"{size} bytes", rule, "Fetch or write the file again.")


def _refuse_other_files(path: Path, head: bytes) -> None:
    found = why_not_data(head)
    if found is not None:
        rule, way_out = found
        raise DataError(path, None, None, rule, way_out.replace("FILE", path.name))


def _chunks(stream: io.BufferedIOBase) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK_BYTES):
        yield chunk


def lines_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a content that comes in chunks, each with its line feed, which the last may lack."""
    begun: list[bytes] = []
    for chunk in chunks:
        first, *further = chunk.split(b"\n")
        begun.append(first)
        for piece in further:
            yield b"".join(begun) + b"\n"
            begun = [piece]
    if last := b"".join(begun):
        yield last


def split_lines(content: bytes) -> list[bytes]:
    """The lines of a content without their line feeds; nothing else (U+2028, say) ends a line."""
    lines = content.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def decode(raw: bytes) -> str:
    """The bytes as UTF-8 text. Raises RowFault for any other encoding."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        rule = f"the text must be UTF-8 (byte 0x{raw[error.start]:02x} at position {error.start + 1} is not)"
        raise RowFault(rule, raw.decode("utf-8", errors="replace")) from None
