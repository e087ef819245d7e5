"""How fast the decoder is beside `generate`: a real shape with random weights on a GPU, the shipped model anywhere."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from workers.benches.compression_speed import SHAPES, random_model
from workers.checkpoints.model_files import read_config
from workers.decoder.decode import Decoder
from workers.decoder.generate import generate
from workers.decoder.greedy import DecodeRequest
from workers.loading.load import load_model, load_tokenizer
from workers.reading.segments import Segment
from workers.translation.chat_template import template_of
from workers.translation.decoding import Decoding
from workers.translation.prompts import choose_prompt
from workers.translation.translator import prepare, shared_beginnings, stop_ids

PROMPT_TOKENS = 80
NEW_TOKENS = 64
MIXED_PROMPT_TOKENS = (40, 160)
MIXED_NEW_TOKENS = (20, 120)
GENERATE_BATCH = 64
CPU_REPEATS = 8
CPU_BATCHES = (64, 256)


@dataclass(frozen=True, slots=True)
class TimedRun:
    """tokens: new ones in all. seconds: end to end, prompts included."""

    tokens: int
    seconds: float

    @property
    def tokens_s(self) -> float:
        return self.tokens / self.seconds


def alike(count: int, vocabulary: int, seed: int = 0) -> list[DecodeRequest]:
    """Random prompts of one length, as many new tokens each."""
    rng = random.Random(seed)
    return [DecodeRequest(_ids(rng, PROMPT_TOKENS, vocabulary), NEW_TOKENS) for _ in range(count)]


def mixed(count: int, vocabulary: int, seed: int = 0) -> list[DecodeRequest]:
    """Random prompts and limits, drawn uniformly."""
    rng = random.Random(seed)
    return [
        DecodeRequest(_ids(rng, rng.randint(*MIXED_PROMPT_TOKENS), vocabulary), rng.randint(*MIXED_NEW_TOKENS))
        for _ in range(count)
    ]


def speed_figures(shape: str, say: Callable[[str], None]) -> dict[str, float]:
    """Of random weights on the first GPU: the decoder beside `generate`, no stop token, so that every limit is met."""
    device = torch.device("cuda", 0)
    model = random_model(SHAPES[shape], device)
    vocabulary = SHAPES[shape].vocabulary
    figures: dict[str, float] = {}
    for batch in (64, 256):
        requests = alike(batch, vocabulary)
        ours = timed_decoder(model, batch, requests, figures, f"warm_up_s_b{batch}")
        theirs = timed_generate(model, batch, requests)
        figures |= {
            f"ratio_b{batch}": ours.tokens_s / theirs.tokens_s,
            f"tokens_s_b{batch}": ours.tokens_s,
            f"generate_tokens_s_b{batch}": theirs.tokens_s,
        }
        say(f"batch {batch}: {ours.tokens_s:.0f} tokens/s, generate {theirs.tokens_s:.0f}")
    figures["seconds_1000_segments"] = timed_decoder(model, 256, alike(1000, vocabulary)).seconds
    figures["seconds_1000_segments_b64"] = timed_decoder(model, 64, alike(1000, vocabulary)).seconds
    say(f"1,000 segments: {figures['seconds_1000_segments']:.2f} s")
    requests = mixed(1024, vocabulary)
    by_batch = {batch: timed_decoder(model, batch, requests) for batch in (64, 256)}
    say(f"1,024 mixed segments: {by_batch[256].tokens_s:.0f} tokens/s, with 64 slots {by_batch[64].tokens_s:.0f}")
    theirs = timed_generate(model, GENERATE_BATCH, requests)
    say(f"generate: {theirs.tokens_s:.0f} tokens/s")
    return figures | {
        "ratio_mixed_1024": by_batch[256].tokens_s / theirs.tokens_s,
        "ratio_mixed_1024_b64": by_batch[64].tokens_s / theirs.tokens_s,
        "tokens_s_mixed": by_batch[256].tokens_s,
        "generate_tokens_s_mixed": theirs.tokens_s,
    }


def shipped_figures(folder: Path, segments: Sequence[Segment], device: str) -> dict[str, float]:
    """Of a real model on real segments: the decoder's speed over `generate`'s, and the share of equal outputs.

    On a CPU, the best of several runs of each, taken in turns: `cpu_ratio` is, as with mixed lengths on a GPU, of the
    largest of CPU_BATCHES over `generate` with 64; `cpu_ratio_best` of each at its better one; `cpu_ratio_b64` of 64
    for both.
    """
    model, tokenizer = load_model(folder, device), load_tokenizer(folder)
    prompt = choose_prompt(str(folder), read_config(folder), template_of(tokenizer), None)
    decoding = Decoding()
    context = model.config.max_position_embeddings
    prompts = [
        prepare(segment, tokenizer, prompt=prompt, examples=(), decoding=decoding, context=context).ids
        for segment in segments
    ]
    shared = shared_beginnings(prompts, [segment.langs for segment in segments])
    requests = [DecodeRequest(ids, decoding.max_new_tokens, alike) for ids, alike in zip(prompts, shared, strict=True)]
    stops = stop_ids(model, tokenizer)
    decoder = Decoder(model, stops, decoding.batch_size)
    ours, theirs = decoder.decode(requests), _generated(model, decoding.batch_size, requests, stops)
    same = sum(mine == other for mine, other in zip(ours, theirs, strict=True)) / len(requests)
    if device != "cpu":
        return {"identical_share": same}
    seconds: dict[tuple[str, int], float] = {}
    for _ in range(CPU_REPEATS):
        for batch in CPU_BATCHES:
            fresh = Decoder(model, stops, batch)
            for name, work in (
                ("ours", partial(fresh.decode, requests)),
                ("theirs", partial(_generated, model, batch, requests, stops)),
            ):
                taken = _seconds(work)
                seconds[name, batch] = min(taken, seconds.get((name, batch), taken))
    best = {name: min(seconds[name, batch] for batch in CPU_BATCHES) for name in ("ours", "theirs")}
    return {
        "cpu_ratio": seconds["theirs", GENERATE_BATCH] / seconds["ours", max(CPU_BATCHES)],
        "cpu_ratio_best": best["theirs"] / best["ours"],
        "cpu_ratio_b64": seconds["theirs", 64] / seconds["ours", 64],
        "cpu_identical_share": same,
        "cpu_seconds": seconds["ours", max(CPU_BATCHES)],
        "cpu_seconds_generate": seconds["theirs", GENERATE_BATCH],
    }


def timed_decoder(
    model: Any,
    batch: int,
    requests: Sequence[DecodeRequest],
    figures: dict[str, float] | None = None,
    warm_up: str = "",
) -> TimedRun:
    """The second of two runs: the first compiles kernels and captures steps (its seconds go under `warm_up`)."""
    decoder = Decoder(model, (), batch)
    first = _seconds(lambda: decoder.decode(requests[: 2 * batch]))
    run = TimedRun(sum(request.limit for request in requests), _seconds(lambda: decoder.decode(requests)))
    if figures is not None:
        figures[warm_up] = first
    return run


def timed_generate(model: Any, batch: int, requests: Sequence[DecodeRequest]) -> TimedRun:
    """After a warm-up of a few tokens. Batches are sorted by the prompts' length; each runs to its longest limit."""
    _generated(model, batch, [DecodeRequest(request.ids, 4) for request in requests[:batch]], ())
    return TimedRun(
        sum(request.limit for request in requests), _seconds(lambda: _generated(model, batch, requests, ()))
    )


def _generated(model: Any, batch: int, requests: Sequence[DecodeRequest], stops: Sequence[int]) -> list[list[int]]:
    done: dict[int, list[int]] = {}
    generate(model, requests, stops=stops, batch_size=batch, beams=1, done=done, progress=lambda finished: None)
    return [done[position] for position in range(len(requests))]


def _seconds(work: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _ids(rng: random.Random, count: int, vocabulary: int) -> tuple[int, ...]:
    return tuple(rng.randrange(3, vocabulary) for _ in range(count))
