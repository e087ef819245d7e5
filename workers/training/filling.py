"""Filling a teacher's cache before training, so that no teacher need be loaded while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from workers.gpu_memory import release_memory
from workers.training.batches import micro_batches
from workers.training.sampling import chosen
from workers.training.teacher_cache import TeacherCache
from workers.training.teachers import CachedTeacher, LiveTeacher, fill

if TYPE_CHECKING:
    from workers.training.pairs import TokenizedPairs

# Batches of so many sequences are made at a time.
_SEQUENCES = 4096


def rows_read(pairs: TokenizedPairs, tokens: int, batch: int, seed: int) -> list[int]:
    """The sequences that a training of so many real tokens reads, each once, in the order in which it does.

    batch: sequences an optimizer step. The last step is whole, as in training.
    """
    rows: dict[int, None] = {}
    read = step = 0
    while read < tokens:
        now = chosen(pairs, step=step, batch=batch, seed=seed)
        rows.update(dict.fromkeys(now))
        read += sum(pairs.length(row) for row in now)
        step += 1
    return list(rows)


def filled_teacher(
    cache: TeacherCache,
    pairs: TokenizedPairs,
    rows: Sequence[int],
    load: Callable[[], LiveTeacher],
    device: torch.device,
    micro_tokens: int,
    report: Callable[[int, int], None] = lambda read, of: None,
) -> CachedTeacher:
    """A teacher that says what the cache holds, after what it lacks of these sequences was asked of a live one.

    load: called only if something is lacking; the model is let go of afterwards. micro_tokens: padded tokens a batch.
    report: told the real tokens read and to be read.
    """
    missing = cache.missing(rows)
    if missing:
        of = sum(pairs.length(row) for row in missing)
        live = load()
        slabs = (missing[start : start + _SEQUENCES] for start in range(0, len(missing), _SEQUENCES))
        batches = (batch for slab in slabs for batch in micro_batches(pairs, slab, micro_tokens))
        fill(cache, live, batches, device, lambda read: report(read, of))
        del live
        release_memory()
    return CachedTeacher(cache)
