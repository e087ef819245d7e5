"""How evenly a CPU decodes beside a neighbour: the same segments of a real model over and over, in a Ray worker."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from workers.checkpoints.model_files import read_config
from workers.reading.segments import Segment
from workers.translation.chat_template import template_of
from workers.translation.decoding import Decoding
from workers.translation.prompts import choose_prompt


def decode_seconds(folder: str, segments: Sequence[Segment], repeats: int) -> list[float]:
    """Seconds of each of so many decodes of all segments at once, after one that is not counted."""
    from workers.decoder.decode import Decoder
    from workers.decoder.greedy import DecodeRequest
    from workers.loading.load import load_model, load_tokenizer
    from workers.translation.translator import prepare, shared_beginnings, stop_ids

    model, tokenizer = load_model(Path(folder), "cpu"), load_tokenizer(Path(folder))
    prompt = choose_prompt(folder, read_config(Path(folder)), template_of(tokenizer), None)
    decoding = Decoding()
    context = model.config.max_position_embeddings
    prompts = [
        prepare(segment, tokenizer, prompt=prompt, examples=(), decoding=decoding, context=context).ids
        for segment in segments
    ]
    shared = shared_beginnings(prompts, [segment.langs for segment in segments])
    requests = [DecodeRequest(ids, decoding.max_new_tokens, alike) for ids, alike in zip(prompts, shared, strict=True)]
    decoder = Decoder(model, stop_ids(model, tokenizer), len(segments))
    seconds = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        decoder.decode(requests)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


@contextmanager
def neighbour() -> Iterator[int]:
    """Another program that keeps half of this machine's cores busy, a process a core; yields how many."""
    count = max(1, len(os.sched_getaffinity(0)) // 2)
    processes = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield count
    finally:
        for process in processes:
            process.kill()
            process.wait()
