"""What a local model is known by: the content of its files, of large ones as much as tells two models apart.

A whole pass over 14 GB takes half a minute, and a search would wait for it before its first trial.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from search_spaces.candidate import SAMPLED, WHOLE
from workers.checkpoints.model_files import needed_files, read_header

# Files up to this size are read whole.
LARGE = 64 * 2**20
# Of each tensor of a large file so many blocks are read, spread evenly from its first byte to its last.
BLOCK, BLOCKS = 16 * 2**10, 4


def content_revision(folder: Path, trust_remote_code: bool = False, whole: bool = False) -> str:
    """What the needed files of a local folder are known by; code of the model's own counts where it runs. whole: as
    in `digest_of_files`."""
    files = needed_files(folder)
    counted = files if trust_remote_code else [file for file in files if file.suffix != ".py"]
    return digest_of_files(folder, counted, whole)


def digest_of_files(folder: Path, files: Sequence[Path], whole: bool = False) -> str:
    """`sha256:…` over the names and contents of a folder's files.

    Where one is large it is `sampled:…`, unless `whole` is said: a large safetensors file counts by its size, its
    header and blocks of each tensor. Training changes nearly every value of a tensor that it changes, so these tell
    models apart; they don't guard against somebody who changes single values between them.
    """
    large = not whole and any(file.stat().st_size > LARGE for file in files)
    hasher = hashlib.sha256()
    for file in sorted(files):
        hasher.update(file.relative_to(folder).as_posix().encode() + b"\0")
        hasher.update(_sampled(file) if large and _is_large_weights(file) else _read(file))
    return f"{SAMPLED if large else WHOLE}{hasher.hexdigest()[:32]}"


def _is_large_weights(file: Path) -> bool:
    return file.suffix == ".safetensors" and file.stat().st_size > LARGE


def _read(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _sampled(file: Path) -> bytes:
    entries, start = read_header(file)
    hasher = hashlib.sha256(str(file.stat().st_size).encode())
    with file.open("rb", buffering=0) as stream:
        hasher.update(stream.read(start))
        for entry in entries.values():
            begin, end = entry["data_offsets"]
            for place, length in blocks_of(begin, end):
                stream.seek(start + place)
                hasher.update(stream.read(length))
    return hasher.digest()


def blocks_of(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Place and length of what is read of the bytes from `begin` to `end`; all of them where they are few."""
    if end - begin <= BLOCKS * BLOCK:
        yield begin, end - begin
        return
    for number in range(BLOCKS):
        yield begin + number * (end - begin - BLOCK) // (BLOCKS - 1), BLOCK
