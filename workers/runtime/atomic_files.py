"""Files that are there whole or not at all: written under a draft's name, and renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What is half written begins so, files and folders alike.
DRAFT = ".draft-"


@contextmanager
def write_through_draft(path: Path, durable: bool = False) -> Iterator[Path]:
    """The draft to write to; it takes the file's place at the end, and goes where that is not reached.

    durable: whether the file outlasts a power cut from then on.
    """
    draft = path.with_name(f"{DRAFT}{path.name}")
    try:
        yield draft
        if durable:
            sync(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    if durable:
        sync(path.parent)


def write_whole(path: Path, text: str, durable: bool = False) -> None:
    """Write a text file, whole or not at all."""
    with write_through_draft(path, durable) as draft:
        draft.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Have what was written to a file, or renamed in a folder, on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
