"""What a teacher says of each target token, kept on disk: its k likeliest tokens, and the mass of the others.

A cache is a folder of shards that only grow; each writer has a shard of its own, so trials and processes may fill one
cache at once. A sequence is in the cache when its index entry is on disk, and that is written after its data: a writer
that is killed leaves nothing that would be believed. Kept by (teacher, tokenized pairs, k), it serves every epoch,
trial and resumed run.
"""

from __future__ import annotations

import json
import os
import uuid
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from search_spaces.candidate import digest_of
from workers.training.losses.cached import Likeliest
from workers.training.teachers.cache_shard import ENTRY, Shard

LIKELIEST = 64
# Part of a cache's key: raised when records of the same teacher would differ.
FORMAT = 1
_PLACE = np.dtype([("shard", "<i4"), ("count", "<i4"), ("start", "<i8")])


class TeacherCache:
    """One folder. A token's record has the log mass of the rest (float32), ids, and log-probabilities (bfloat16).

    k: likeliest tokens of each target token. vocabulary: how many there are; ids take 2 bytes up to 65,536, else 4.
    """

    def __init__(self, folder: Path, k: int, vocabulary: int) -> None:
        self.k = min(k, vocabulary)
        self.vocabulary = vocabulary
        self._folder = folder
        self._ids_bytes = 2 if vocabulary <= 2**16 else 4
        # The widest numbers first, so that each part of a record begins where its type may.
        ids = "<u2" if self._ids_bytes == 2 else "<i4"
        self._record = np.dtype([("tail", "<f4"), ("ids", ids, self.k), ("logs", "<u2", self.k)])
        self._places = np.full(0, -1, dtype=_PLACE)
        self._readers: list[int] = []
        self._writer: Shard | None = None
        # Here and for the writer: also when nobody closes the cache.
        self._close_readers = weakref.finalize(self, _close_all, self._readers)
        for index in sorted(folder.glob("*.rows")):
            self._open(index)

    @property
    def bytes_per_token(self) -> int:
        return self._record.itemsize

    @property
    def tokens(self) -> int:
        """Target tokens in the cache."""
        return int(self._places["count"][self._places["shard"] >= 0].sum())

    def missing(self, rows: Sequence[int]) -> list[int]:
        """Those of these sequences that are not in the cache, each once, in their order."""
        return [row for row in dict.fromkeys(rows) if row >= len(self._places) or self._places["shard"][row] < 0]

    def put(self, rows: Sequence[int], counts: Sequence[int], said: Likeliest) -> None:
        """Keep what was said of these sequences; those that the cache has are left as they are.

        counts: target tokens of each sequence; said: of all of them, one sequence after the other. Raises OSError when
        the disk is full; what the cache had before stays whole.
        """
        if sum(counts) != len(said.ids):
            raise ValueError(f"{sum(counts)} target tokens in {len(rows)} sequences, and {len(said.ids)} records")
        wanted = set(self.missing(rows))
        records = self._records(said)
        if self._writer is None:
            self._writer = Shard(self._folder)
            self._close_writer = weakref.finalize(self, self._writer.close)
            self._readers.append(os.open(self._writer.data, os.O_RDONLY))
        entries = []
        last = 0
        for row, count in zip(rows, counts, strict=True):
            last += count
            if row in wanted:
                wanted.discard(row)
                entries.append(self._writer.append(row, records[last - count : last]))
        if entries:
            self._place(np.array(entries, dtype=ENTRY), len(self._readers) - 1)

    def read(self, rows: Sequence[int], device: torch.device) -> Likeliest:
        """What was said of these sequences, one after the other; raises KeyError for one that is not in the cache."""
        if absent := self.missing(rows):
            raise KeyError(f"the teacher's cache {self._folder} lacks {len(absent)} sequences, {absent[0]} among them")
        places = self._places[np.asarray(rows, dtype=np.int64)]
        size = self.bytes_per_token
        tokens = int(places["count"].sum())
        buffer = torch.empty(tokens * size, dtype=torch.uint8, pin_memory=device.type == "cuda")
        view = memoryview(buffer.numpy())
        at = 0
        for shard, count, start in places.tolist():
            length = count * size
            if os.preadv(self._readers[shard], [view[at : at + length]], start * size) != length:
                raise OSError(f"a shard of the teacher's cache {self._folder} was cut short while in use")
            at += length
        return self._decoded(buffer.to(device, non_blocking=True).view(tokens, size))

    def flush(self) -> None:
        """Put on disk, data first, what was kept since the last time."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Flush, and let go of the files."""
        if self._writer is not None:
            self._close_writer()
        self._close_readers()
        self._writer = None
        self._places = np.full(0, -1, dtype=_PLACE)

    def _open(self, index: Path) -> None:
        data = index.with_suffix(".tokens")
        content = index.read_bytes()
        # Without an entry that was cut off when its writer was killed, or whose data a crash took.
        entries = np.frombuffer(content, dtype=ENTRY, count=len(content) // ENTRY.itemsize)
        held = data.stat().st_size // self.bytes_per_token if data.is_file() else 0
        entries = entries[entries["start"] + entries["count"] <= held]
        if len(entries):
            self._readers.append(os.open(data, os.O_RDONLY))
            self._place(entries, len(self._readers) - 1)

    def _place(self, entries: Any, shard: int) -> None:
        last = int(entries["row"].max())
        if last >= len(self._places):
            grown = np.full(max(2 * len(self._places), last + 1), -1, dtype=_PLACE)
            grown[: len(self._places)] = self._places
            self._places = grown
        rows = entries["row"]
        self._places["start"][rows] = entries["start"]
        self._places["count"][rows] = entries["count"]
        self._places["shard"][rows] = shard

    def _records(self, said: Likeliest) -> Any:
        records = np.empty(len(said.ids), dtype=self._record)
        records["ids"] = said.ids.cpu().numpy()
        records["logs"] = said.logs.bfloat16().cpu().view(torch.int16).numpy().view(np.uint16)
        records["tail"] = -np.inf if said.tail is None else said.tail.float().cpu().numpy()
        return records

    def _decoded(self, records: torch.Tensor) -> Likeliest:
        """Records (n, bytes), uint8, taken apart on their device."""
        tail, ids, logs = records.split([4, self._ids_bytes * self.k, 2 * self.k], dim=1)
        stored = torch.int32 if self._ids_bytes == 4 else torch.int16
        wide = ids.flatten().view(stored).view(len(ids), self.k).long()
        whole = tail.flatten().view(torch.float32) if self.k < self.vocabulary else None
        log_p = logs.flatten().view(torch.bfloat16).view(len(logs), self.k).float()
        return Likeliest(wide if self._ids_bytes == 4 else wide & 0xFFFF, log_p, whole)


def open_cache(store: Path, about: Mapping[str, Any], vocabulary: int, k: int = LIKELIEST) -> TeacherCache:
    """The cache for what `about` names, in the artefact store; made when there is none.

    about: JSON values that decide what the teacher says: its identity, and the digest of the tokenized pairs (whose
    prompt, tokenizer and cut it holds).
    """
    key = {**about, "k": k, "vocabulary": vocabulary, "format": FORMAT}
    folder = store / f"teacher-{digest_of(key)}"
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".about-{uuid.uuid4().hex[:8]}"
    draft.write_text(json.dumps(key, indent=1, sort_keys=True), encoding="utf-8")
    draft.rename(folder / "about.json")
    return TeacherCache(folder, k, vocabulary)


def _close_all(files: list[int]) -> None:
    while files:
        os.close(files.pop())
