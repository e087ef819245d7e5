"""Tell by a file's first bytes that it is not what its name says: a pointer, the page of an error, another archive."""

from __future__ import annotations

import re
from pathlib import Path

# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md; the second is what it was called before.
_LFS = re.compile(rb"version https://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/")
_ANNEX = re.compile(rb"(?:\.\./)*(?:\.git/annex|/annex)/objects/")
_PAGE = re.compile(rb"\s*(?:<!--.{0,200}?-->\s*)?<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE | re.DOTALL)
_XML = re.compile(rb"\s*<\?xml[\s]")
_PACKED: tuple[tuple[bytes, str, str], ...] = (
    (b"\xfd7zXZ\x00", "an xz archive", "xz -d FILE"),
    (b"BZh", "a bzip2 archive", "bzip2 -d FILE"),
    (b"PK\x03\x04", "a zip archive", "unzip FILE"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "zstd -d FILE"),
    (b"\x04\x22\x4d\x18", "an lz4 archive", "lz4 -d FILE"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x FILE"),
    (b"Rar!\x1a\x07", "a rar archive", "unrar x FILE"),
    (b"\x1f\x8b", "a gzip archive in a gzip archive", "gzip -d FILE"),
)
_OTHER: tuple[tuple[bytes, str, str], ...] = (
    (b"%PDF-", "a PDF document", "Take the text out of it, one segment a line."),
    (b"SQLite format 3\x00", "an SQLite database", "Export the table of pairs as CSV."),
    (b"\x80\x02", "a Python pickle, which is never loaded", "Write it as JSON lines."),
    (b"\x80\x04", "a Python pickle, which is never loaded", "Write it as JSON lines."),
    (b"\xff\xfe", "UTF-16 text, not UTF-8", "Convert it: iconv -f UTF-16 -t UTF-8 FILE"),
    (b"\xfe\xff", "UTF-16 text, not UTF-8", "Convert it: iconv -f UTF-16 -t UTF-8 FILE"),
    (b"GGUF", "a GGUF model", "Name the folder of safetensors that it was made from."),
)
_TAR_AT, _TAR = 257, b"ustar"
# A pointer has three short lines; the spec allows fewer than 1024 bytes.
POINTER_BYTES = 1024


def why_not_data(head: bytes) -> tuple[str, str] | None:
    """What a file that begins with these bytes is instead of data, and the way out, a sentence each; None for others.

    head: the first bytes, 512 or more where the file has them.
    """
    found = why_no_file(head)
    if found is not None:
        return found
    if head[_TAR_AT:].startswith(_TAR):
        return "this is a tar archive", "Unpack it (tar -xf FILE), and name one file of it."
    for magic, what, command in _PACKED:
        if head.startswith(magic):
            return f"this is {what}; plain and gzip files are read", f"Unpack it: {command}"
    for magic, what, way_out in _OTHER:
        if head.startswith(magic):
            return f"this is {what}", way_out
    if _XML.match(head):
        return (
            "this is an XML document, which is not an accepted format",
            "Write its segments as JSON lines {src, ref, langs}.",
        )
    return None


def why_no_file(head: bytes) -> tuple[str, str] | None:
    """The same for what stands in place of any file, a model's too: a pointer, or the page of a failed download."""
    if _LFS.match(head):
        return "this is a Git LFS pointer, not the file", "Fetch the file: git lfs pull"
    if _ANNEX.match(head):
        return "this is a git-annex pointer, not the file", "Fetch the file: git annex get FILE"
    if _PAGE.match(head):
        return "this is a web page, not the file: the download failed", "Fetch the file itself, by its raw address."
    return None


def why_no_file_at(path: Path) -> tuple[str, str] | None:
    """The same for a file on disk; None where there is none or it can't be read, which others say better."""
    try:
        with path.open("rb") as stream:
            return why_no_file(stream.read(POINTER_BYTES))
    except OSError:
        return None
