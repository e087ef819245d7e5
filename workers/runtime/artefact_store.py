"""The artefact store: content-addressed folders, each written under a temporary name and renamed when it is whole.

A key names everything that decides the content, so equal keys may share a folder, across trials and processes. Who asks
for what another is building waits for it.
"""

from __future__ import annotations

import json
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.runtime.atomic_files import DRAFT, sync
from workers.runtime.file_locks import hold

MANIFEST = "artefact.json"
LOCK = ".lock-"
# A folder of a training's checkpoints, which a longer training may go on from, and the file in it that says that the
# training is over.
TRAINING, ENDED = "training-", "ended"


@dataclass(frozen=True, slots=True)
class Artefact:
    """A whole folder in the store, and what its manifest says of it."""

    path: Path
    about: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ArtefactStore:
    """root: a folder that every worker of a study can reach; it is made when first written to."""

    root: Path

    def find(self, key: str) -> Artefact | None:
        """The artefact under this key, or None; a folder whose files don't match its manifest is not one."""
        folder = self.root / key
        manifest = folder / MANIFEST
        if not manifest.is_file():
            return None
        record = json.loads(manifest.read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in record["files"] if (folder / name).is_file()}
        return Artefact(folder, record["about"]) if sizes == record["files"] else None

    def sweep(self) -> None:
        """Remove what killed builders left half-made, not what is being built, where the file system has locks."""
        left: dict[str, list[Path]] = {lock.name[len(LOCK) :]: [] for lock in self.root.glob(f"{LOCK}*")}
        for draft in self.root.glob(f"{DRAFT}*"):
            left.setdefault(draft.name[len(DRAFT) :].rpartition("-")[0], []).append(draft)
        for key, drafts in left.items():
            try:
                held = hold(self.root / f"{LOCK}{key}", 0.0)
            except TimeoutError:
                continue
            with held:
                for draft in drafts:
                    # Its builder may have ended since.
                    if draft.exists():
                        shutil.rmtree(draft)
                (self.root / f"{LOCK}{key}").unlink(missing_ok=True)

    def get(self, key: str, build: Callable[[Path], dict[str, Any]], queue: str = "") -> Artefact:
        """The artefact under this key, built when there is none.

        `build` fills the empty folder it is given and returns what the manifest shall say. While another builds it,
        this waits; should that one fail or be killed, the next in line builds it. Who stands in another queue builds at
        the same time, and the first to finish is kept: a builder that waits for a GPU must not be waited for by one
        that holds it.
        """
        if (found := self.find(key)) is not None:
            return found
        self.root.mkdir(parents=True, exist_ok=True)
        lock = self.root / f"{LOCK}{key}{queue}"
        with hold(lock):
            try:
                return self.find(key) or self._built(key, build, queue)
            finally:
                # Who waits for the file that is gone sees that it is, and takes a new one.
                lock.unlink(missing_ok=True)

    def _built(self, key: str, build: Callable[[Path], dict[str, Any]], queue: str) -> Artefact:
        draft = self.root / f"{DRAFT}{key}{queue}-{uuid.uuid4().hex[:8]}"
        draft.mkdir()
        began = time.monotonic()
        try:
            about = build(draft)
            _write_manifest(draft, about, time.monotonic() - began)
            self._settle(draft, key)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        found = self.find(key)
        if found is None:
            raise OSError(f"the artefact {self.root / key} vanished or changed while it was being written")
        return found

    def _settle(self, draft: Path, key: str) -> None:
        target = self.root / key
        # In this order: what another builder puts there between the two looks is whole, and stays.
        if target.exists() and self.find(key) is None:
            shutil.rmtree(target)
        try:
            draft.rename(target)
        except OSError:
            if self.find(key) is None:
                raise


def _write_manifest(folder: Path, about: dict[str, Any], seconds: float) -> None:
    """seconds: what making the folder took, for whoever has to choose what to give up."""
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    files = {file.relative_to(folder).as_posix(): file.stat().st_size for file in found}
    for name in files:
        sync(folder / name)
    with (folder / MANIFEST).open("w", encoding="utf-8") as stream:
        json.dump({"files": files, "about": about, "seconds": round(seconds, 3)}, stream, indent=1, sort_keys=True)
    sync(folder / MANIFEST)
    _give_usual_rights(found, (folder / MANIFEST).stat().st_mode)


def _give_usual_rights(files: Sequence[Path], usual: int) -> None:
    """Let others read what the user's umask lets them read: safetensors writes for its user alone (seen in 0.8.0).

    usual: the mode of a file that was made plainly. Files that are links to others are left alone.
    """
    for file in files:
        found = file.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and usual & ~found.st_mode:
            file.chmod(stat.S_IMODE(found.st_mode | usual))
