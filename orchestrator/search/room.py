"""Room in a study's own artefact store: its limit, what may go when that or the disk is short, and in which order.

Whatever goes can be made again: it is named by everything that decides its content.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.study.preflight import nearest_folder
from search_spaces.candidate import Candidate
from workers.runtime.artefact_store import ENDED, MANIFEST, TRAINING
from workers.runtime.atomic_files import DRAFT

# Statistics and profiles are asked for by many candidates, so they go last.
SHARED = ("statistics-", "profile-")
# Statistics may be taken, and drafts lie beside what is whole: so many times the artefacts' bytes.
TIMES = 1.5
# For the ledger, pages, MLflow and Tune's state; of a small disk a share of it.
RESERVE = 256 * 2**20
RESERVED_SHARE = 0.1

Steps = Sequence[Any]
Predicted = Callable[[Candidate, int], int]


@dataclass(frozen=True, slots=True)
class Stored:
    """A folder of the store."""

    path: Path
    bytes: int
    steps: Steps | None
    """Of the candidate that it is the artefact of, as JSON; None for anything else."""
    seconds: float = 0.0
    """What it took to make, the steps before its last not counted; 0 where that is not known."""


def stored_artefacts(store: Path) -> list[Stored]:
    """What the store holds whole, in the order in which it was made."""
    found: list[tuple[float, Stored]] = []
    for folder in store.iterdir() if store.is_dir() else ():
        manifest = folder / MANIFEST
        if folder.name.startswith(DRAFT) or not manifest.is_file():
            continue
        record = json.loads(manifest.read_text(encoding="utf-8"))
        steps = record["about"].get("steps")
        one = Stored(folder, sum(record["files"].values()), steps, record.get("seconds", 0.0))
        found.append((manifest.stat().st_mtime, one))
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def stored_trainings(store: Path) -> tuple[list[Stored], list[Stored]]:
    """The checkpoints that the store holds: of trainings that are over, which only longer ones would go on from, the
    oldest first; and of those under way or stopped."""
    over: list[tuple[float, Stored]] = []
    others: list[Stored] = []
    for folder in store.glob(f"{TRAINING}*"):
        ended = folder / ENDED
        with suppress(FileNotFoundError):
            one = Stored(folder, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()), None)
            if ended.is_file():
                over.append((ended.stat().st_mtime, one))
            else:
                others.append(one)
    return [one for _, one in sorted(over, key=lambda pair: pair[0])], others


def may_go(
    held: Iterable[Stored], whole: Collection[Candidate], pending: Collection[Candidate], shared: bool
) -> list[Stored]:
    """What no candidate needs: no artefact of `whole`, no prefix of anything `pending`; first what is made again
    soonest for its bytes. shared: whether calibration statistics may go too, which is so when nothing runs that could
    be reading them."""
    held = list(held)
    kept = {_spelt(candidate.to_json()["steps"]) for candidate in whole}
    for candidate in pending:
        kept |= {_spelt(prefix) for prefix in _prefixes(candidate)}
    free = [one for one in held if one.steps is not None and _spelt(one.steps) not in kept]
    free.sort(key=lambda one: one.seconds / max(one.bytes, 1))
    return free + [one for one in held if shared and one.path.name.startswith(SHARED)]


def reserved_bytes(held: Iterable[Stored], pending: Iterable[Candidate], predicted: Predicted) -> int:
    """The bytes of what pending candidates will put into the store: each prefix of their steps behind the longest that
    is there, once. predicted: the bytes of the artefact of a candidate with so many of its steps."""
    there = {_spelt(one.steps) for one in held if one.steps is not None}
    missing: dict[str, int] = {}
    for candidate in pending:
        for length, prefix in reversed(list(enumerate(_prefixes(candidate), start=1))):
            if _spelt(prefix) in there:
                break
            missing[_spelt(prefix)] = predicted(candidate, length)
    return sum(missing.values())


def within_limit(held: Sequence[Stored], choice: Iterable[Stored], reserved: int, limit: int) -> list[Stored]:
    """Of `choice`, the first so many that must go for what is held and reserved to keep to the limit; all of it where
    that is not enough."""
    over = sum(one.bytes for one in held) + reserved - limit
    gone: list[Stored] = []
    for one in choice:
        if over <= 0:
            break
        gone.append(one)
        over -= one.bytes
    return gone


def default_limit(store: Path) -> int:
    """Half of what is free on the store's disk, beside what the store holds already."""
    return held_bytes(store) + shutil.disk_usage(nearest_folder(store)).free // 2


def held_bytes(store: Path) -> int:
    """The bytes of what the store holds whole, and of trainings' checkpoints."""
    over, others = stored_trainings(store)
    return sum(one.bytes for one in (*stored_artefacts(store), *over, *others))


def half_made(store: Path) -> int:
    """The bytes of what builders have not finished."""
    files = (file for draft in store.glob(f"{DRAFT}*") for file in draft.rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files)


def needed_bytes(artefacts: int, disk: int) -> int:
    """The bytes that a disk of this size should have free before a candidate is made. artefacts: of all its steps."""
    return int(TIMES * artefacts + min(RESERVE, RESERVED_SHARE * disk))


def make_room(choice: Iterable[Stored], store: Path, wanted: int | None, beside: bool = False) -> int:
    """Remove these, the first first, until so many bytes are free on the store's disk, or all where None is said.

    beside: whether a thread does it, for who need not wait for the room; a folder of 14 GB takes seconds. Returns the
    bytes that went.
    """
    went = 0
    for one in choice:
        if wanted is not None and shutil.disk_usage(store).free >= wanted:
            break
        # Out of sight first: what is half removed is no artefact.
        gone = one.path.with_name(f"{DRAFT}{one.path.name}-gone")
        one.path.rename(gone)
        if beside:
            # What a process that ends leaves of it is a draft, which the next sweep takes.
            threading.Thread(target=shutil.rmtree, args=(gone,), kwargs={"ignore_errors": True}, daemon=True).start()
        else:
            shutil.rmtree(gone)
        went += one.bytes
    return went


def _prefixes(candidate: Candidate) -> list[Steps]:
    steps = candidate.to_json()["steps"]
    return [steps[:length] for length in range(1, len(steps) + 1)]


def _spelt(steps: Steps) -> str:
    return json.dumps(list(steps), sort_keys=True)
