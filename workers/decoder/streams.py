"""Streams: a CPU's decoding in several threads, each with slots and cores of its own.

A step is many small operations. One thread that shares each of them among all cores waits for the slowest core after
every one; streams wait for each other at the end only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

# Slots a stream has at least. 999 captions by a 5-million-parameter model on 2 cores (AMD EPYC), best of ten: 2.80 s in
# two streams of 128, 3.07 s in one of 256. Two of 64 gained nothing over one of 128, and two of 32 lost.
LEAST_SLOTS = 128

# What a stream carries out; it tells how many of its sequences are done.
Work = Callable[[Callable[[int], None]], None]


def streams_for(slots: int, cores: int) -> int:
    """How many streams share so many slots and cores."""
    return max(1, min(cores, slots // LEAST_SLOTS))


def shares(positions: Sequence[int], count: int) -> list[list[int]]:
    """The positions dealt out in turns: each share has as many, and of the same lengths, when they are in order."""
    return [list(positions[start::count]) for start in range(count)]


def run_streams(works: Sequence[Work], told: Callable[[], None]) -> None:
    """Carry out all works, each in a thread with an equal share of torch's threads.

    told: called by one stream at a time when a sequence is done. What one of them raises is raised here, once the
    others have ended: they do with their next sequence. Torch has as many threads afterwards as before.
    """
    cores = torch.get_num_threads()
    telling = threading.Lock()
    stopped = threading.Event()

    def heard(done: int) -> None:
        if stopped.is_set():
            raise _Stopped
        with telling:
            told()

    def carry_out(work: Work) -> None:
        torch.set_num_threads(max(1, cores // len(works)))
        try:
            with torch.inference_mode():
                work(heard)
        except _Stopped:
            pass
        except BaseException:
            stopped.set()
            raise

    with ThreadPoolExecutor(len(works), thread_name_prefix="decoding") as pool:
        under_way = [pool.submit(carry_out, work) for work in works]
        try:
            for one in under_way:
                one.result()
        finally:
            stopped.set()
            # The setting is a thread's own, but threads that come later begin with the one set last.
            torch.set_num_threads(cores)


class _Stopped(Exception):
    """Another stream has failed, or nobody waits any longer."""
