"""Opens a study's model for the driver, which loads no torch: a folder, a hub id, or a GGUF file.

A GGUF file becomes a plain bfloat16 folder in the artefact store first, in a process of its own.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path

from search_spaces.candidate import BaseModel, is_of_content
from search_spaces.errors import ModelFilesError
from search_spaces.sizes.tensor_table import Checkpoint
from workers.checkpoints.base_model import OpenedBase, open_base, refuse_early
from workers.checkpoints.gguf_header import (
    MEGABYTE,
    GgufHeader,
    gguf_revision,
    is_gguf,
    read_gguf,
    spell_grid,
    spell_types,
)
from workers.loading.gguf_folder import ORIGIN, key_of
from workers.runtime.artefact_store import ArtefactStore

Say = Callable[[str], None]
ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "workers.loading.gguf_folder")
# A bfloat16's.
BYTES = 2
# Lines of a process's last words that are said on.
LAST_WORDS = 3


def no_check(checkpoint: Checkpoint) -> None:
    """Take any model."""


def open_model(
    name: str,
    revision: str | None,
    trust_remote_code: bool,
    check: Callable[[Checkpoint], object] = no_check,
    compressed: bool = True,
    store: Path | None = None,
    say: Say = lambda line: None,
) -> OpenedBase:
    """As `open_base`, and what a GGUF file holds. store: where that becomes a folder; None for who reads headers alone,
    for whom nothing is written that lasts. say: is told what is done, a line each.

    Raises ModelFilesError or CandidateError, with the way out.
    """
    if not is_gguf(name):
        return open_base(name, revision, trust_remote_code, check, compressed)
    header = read_named(name, revision)
    folder = sketch_of(header) if store is None else folder_of(header, store, say)
    opened = open_base(str(folder), None, False, check, compressed)
    if opened.conversion is not None:
        raise ModelFilesError(f"{header.file} does not become a plain model: {'; '.join(opened.notes)}")
    notes = tuple(json.loads((folder / ORIGIN).read_text(encoding="utf-8"))["notes"])
    return replace(opened, base=BaseModel(str(header.file), gguf_revision(header)), notes=notes)


def refuse_model_early(
    name: str, revision: str | None, trust_remote_code: bool, check: Callable[[Checkpoint], object]
) -> None:
    """As `refuse_early`, and what the header of a GGUF file tells."""
    if is_gguf(name):
        read_named(name, revision)
    else:
        refuse_early(name, revision, trust_remote_code, check)


def read_named(name: str, revision: str | None = None) -> GgufHeader:
    """The header of the GGUF file that a study names; raises ModelFilesError."""
    if revision is not None and not is_of_content(revision):
        raise ModelFilesError(f"{name} is a file, which has no revision {revision!r}; leave the revision out")
    return read_gguf(Path(name).expanduser().resolve())


def origin_of(name: str) -> str | None:
    """What a study's model was before it was read, in words: of a GGUF file its bytes and the types of its tensors."""
    if not is_gguf(name):
        return None
    header = read_named(name)
    return "; ".join(filter(None, [spell_types(header), spell_grid(header)]))


def folder_of(header: GgufHeader, store: Path, say: Say) -> Path:
    """The file's folder in the store, made now where there is none; raises ModelFilesError where that can't be."""
    found = ArtefactStore(store).find(key_of(gguf_revision(header)))
    if found is not None:
        return found.path
    needed = sum(BYTES * prod(one.shape) for one in header.tensors)
    there = next(folder for folder in (store, *store.absolute().parents) if folder.is_dir())
    if (free := shutil.disk_usage(there).free) < needed:
        raise ModelFilesError(
            f"{header.file} becomes a folder of at most {needed / MEGABYTE:,.0f} MB, and {there} has room for "
            f"{free / MEGABYTE:,.0f} MB; free some, or name another folder with --store"
        )
    say(f"model: {header.file.name} is made a bfloat16 folder in {store}, at most {needed / MEGABYTE:,.0f} MB, once")
    return _asked(header, ["--store", str(store)], say)


def sketch_of(header: GgufHeader) -> Path:
    """A folder with all that the file's will have but weights, which goes when this process ends."""
    out = tempfile.mkdtemp(prefix="mtpareto-gguf-")
    atexit.register(shutil.rmtree, out, ignore_errors=True)
    return _asked(header, ["--sketch", out], lambda line: None)


def _asked(header: GgufHeader, words: list[str], say: Say) -> Path:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # A GPU is for trials. A bar is for whoever looks at a terminal; else what stands there is kept for an error.
    environ = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"}
    with (
        tempfile.TemporaryFile("w+") as told,
        subprocess.Popen(
            [*COMMAND, str(header.file), *words],
            stdout=subprocess.PIPE,
            stderr=None if sys.stderr.isatty() else told,
            text=True,
            env=environ,
        ) as process,
    ):
        folder = None
        try:
            for line in process.stdout or ():
                record = json.loads(line) if line.startswith("{") else {}
                if "say" in record:
                    say(f"model: {record['say']}")
                if "error" in record:
                    raise ModelFilesError(record["error"])
                folder = record.get("folder", folder)
            code = process.wait()
        finally:
            # Where this is stopped on the way: what is half written is a draft, which the store's next sweep takes.
            process.kill()
        told.seek(0)
        if code or folder is None:
            words = told.read().strip().splitlines()[-LAST_WORDS:]
            why = (
                f"its process was ended by signal {-code}, by a stop or where memory ran out"
                if code < 0
                else " ".join(words)
            )
            raise ModelFilesError(f"{header.file} could not be made a folder: {why or 'see above'}")
    return Path(folder)
