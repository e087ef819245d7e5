"""Filling a teacher's cache before training, so that no teacher need be loaded while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch

from workers.runtime.gpu_memory import release_memory
from workers.training.data.batches import batches_for, fewest_tokens_of, halve_micro_tokens
from workers.training.data.sampling import choose_rows
from workers.training.teachers.cache import TeacherCache
from workers.training.teachers.teacher import CachedTeacher, LiveTeacher, fill

if TYPE_CHECKING:
    from workers.training.data.tokenized_pairs import TokenizedPairs

# Batches of so many sequences are made at a time.
_SEQUENCES = 4096

log = logging.getLogger(__name__)


def rows_read(pairs: TokenizedPairs, tokens: int, batch: int, seed: int) -> list[int]:
    """The sequences that a training of so many real tokens reads, each once, in the order in which it does.

    batch: sequences an optimizer step. The last step is whole, as in training.
    """
    rows: dict[int, None] = {}
    read = step = 0
    while read < tokens:
        now = choose_rows(pairs, step=step, batch=batch, seed=seed)
        rows.update(dict.fromkeys(now))
        read += sum(pairs.length(row) for row in now)
        step += 1
    return list(rows)


def fill_teacher_cache(
    cache: TeacherCache,
    pairs: TokenizedPairs,
    rows: Sequence[int],
    load: Callable[[], LiveTeacher],
    device: torch.device,
    micro_tokens: int,
    report: Callable[[int, int], None] = lambda read, of: None,
) -> CachedTeacher:
    """A teacher that says what the cache holds, after what it lacks of these sequences was asked of a live one.

    load: called only if something is lacking; the model is let go of afterwards. micro_tokens: padded tokens a batch,
    halved with a warning when memory runs out, until a batch is a single sequence. report: told the real tokens read
    and to be read.
    """
    missing = cache.missing(rows)
    if missing:
        of = sum(pairs.length(row) for row in missing)
        report(0, of)
        live = load()
        packs = device.type == "cuda" and live.pack()
        fewest = fewest_tokens_of(live.readout.model, device)
        read = 0
        for start in range(0, len(missing), _SEQUENCES):
            left = missing[start : start + _SEQUENCES]
            while left:
                batches = batches_for(pairs, left, micro_tokens, fewest, packs)
                too_large = fill(cache, live, batches, device, partial(_told, report, read, of))
                asked, left = left, cache.missing(left)
                read += sum(map(pairs.length, asked)) - sum(map(pairs.length, left))
                if too_large is not None:
                    release_memory()
                    micro_tokens = halve_micro_tokens(micro_tokens, too_large.size)
                    log.warning("out of memory: the teacher is asked for %d tokens at a time from here", micro_tokens)
        del live
        release_memory()
    return CachedTeacher(cache)


def _told(report: Callable[[int, int], None], before: int, of: int, read: int) -> None:
    report(before + read, of)
