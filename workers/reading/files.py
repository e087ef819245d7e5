"""Get the bytes of a data file, plain or gzip, and cut them into lines."""

import codecs
import gzip
import io
import zlib
from pathlib import Path

from workers.reading.errors import DataError, RowFault

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 1 << 20


def read_content(path: Path) -> bytes:
    """Return a file's content, unpacked if its first bytes are gzip's, without a byte order mark.

    Raises DataError if the file is missing, no file, unreadable, empty, or a broken gzip file.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(path, None, None, "there is no such file", "Check the path.") from None
    except IsADirectoryError:
        way_out = "Name one file in it; each is a data set of its own."
        raise DataError(path, None, None, "this is a folder, not a file", way_out) from None
    except OSError as error:
        rule = f"the file can't be read: {error.strerror}"
        raise DataError(path, None, None, rule, "Check its permissions and its disk.") from None
    content = _unpack(path, raw) if raw.startswith(_GZIP_MAGIC) else raw
    content = content.removeprefix(codecs.BOM_UTF8)
    if not content.strip():
        packed = " after unpacking" if raw.startswith(_GZIP_MAGIC) else ""
        rule = f"the file is empty{packed}: a data file has at least one row"
        raise DataError(path, None, f"{len(raw)} bytes", rule, "Fetch or write the file again.")
    return content


def _unpack(path: Path, raw: bytes) -> bytes:
    unpacked = bytearray()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                unpacked += chunk
    except (EOFError, OSError, zlib.error) as error:
        rule = f"the gzip file is cut off or damaged ({error})"
        value = f"{len(raw)} packed bytes, {len(unpacked)} unpacked before the damage"
        way_out = "Fetch it again; a damaged gzip file can't be read in part."
        raise DataError(path, unpacked.count(b"\n") + 1, value, rule, way_out) from None
    return bytes(unpacked)


def split_lines(content: bytes) -> list[bytes]:
    """Return the lines of `content` without their line feeds; nothing else (U+2028, say) ends a line."""
    lines = content.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def decode(raw: bytes) -> str:
    """Return `raw` as UTF-8 text. Raises RowFault for any other encoding."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        rule = f"the text must be UTF-8 (byte 0x{raw[error.start]:02x} at position {error.start + 1} is not)"
        raise RowFault(rule, raw.decode("utf-8", errors="replace")) from None
