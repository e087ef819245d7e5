"""Files that are there whole or not at all: written under a draft's name, and renamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.runtime.artefact_store import DRAFT


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """The draft to write to; it takes the file's place at the end, and goes where that is not reached."""
    draft = path.with_name(f"{DRAFT}{path.name}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with drafted(path) as draft:
        draft.write_text(text, encoding="utf-8")
