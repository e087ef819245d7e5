"""How fast a model runs as it ships and what memory it takes: weights kept packed, in the engine that translates."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from search_spaces.methods.timable import NEEDS_GPU
from search_spaces.outcome import Speed
from workers.checkpoints.model_files import read_config
from workers.decoder.decode import Decoder
from workers.decoder.greedy import DecodeRequest
from workers.loading.spread import Placement
from workers.packed.held import assert_packed, held_bytes
from workers.packed.load import NotPackedError, load_packed, why_not_packed
from workers.packed.modules import kernel_names, needs_gpu
from workers.plan.evaluation_plan import SPEED_BATCHES, SPEED_REPEATS, SPEED_TOKENS

# A run of seconds differs by a few hundredths of itself from the next.
LONG_ENOUGH = 3.0


def measure_speed(
    folder: Path,
    requests: Sequence[Sequence[int]],
    where: torch.device | Placement,
    batches: Sequence[int] = SPEED_BATCHES,
    new_tokens: int = SPEED_TOKENS,
    trust_remote_code: bool = False,
) -> Speed:
    """Load the folder and decode these prompts (token ids), taken in turn, at each batch size.

    Every sequence runs to `new_tokens`, so that all candidates do the same work; each batch is warmed up and then timed
    SPEED_REPEATS times, or until that took LONG_ENOUGH seconds, and the median counts. Raises DecompressedError for
    weights that were not kept as they are stored.
    """
    placement = where if isinstance(where, Placement) else Placement(where)
    reason = why_not_measured(folder, placement.home)
    if reason is not None:
        return Speed(reason=reason)
    gpus = [device for device in placement.devices if device.type == "cuda"]
    for gpu in gpus:
        torch.cuda.synchronize(gpu)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(gpu)
    start = time.perf_counter()
    try:
        model = load_packed(folder, placement, trust_remote_code)
    except NotPackedError as error:
        return Speed(reason=str(error))
    for gpu in gpus:
        torch.cuda.synchronize(gpu)
    load_seconds = time.perf_counter() - start
    seconds = {batch: _seconds(model, _batch(requests, batch), new_tokens) for batch in batches}
    assert_packed(model, folder)
    return Speed(
        tokens_s={batch: batch * new_tokens / taken for batch, taken in seconds.items()},
        latency=seconds.get(1),
        load_seconds=load_seconds,
        peak_bytes=sum(torch.cuda.max_memory_allocated(gpu) for gpu in gpus) if gpus else None,
        weights_bytes=held_bytes(model),
        kernels=kernel_names(model),
    )


def why_not_measured(folder: Path, device: torch.device) -> str | None:
    """Why this folder's speed can't be measured on this device with its weights kept packed; None when it can."""
    reason = why_not_packed(folder)
    if reason is None and needs_gpu(read_config(folder)):
        if device.type != "cuda":
            return NEEDS_GPU
        if find_spec("triton") is None:
            return "the kernels for packed weights need Triton, which torch's builds for CUDA bring with them"
    return reason


def _batch(requests: Sequence[Sequence[int]], size: int) -> list[list[int]]:
    if not requests:
        raise ValueError("speed is measured on at least one prompt")
    return [list(requests[number % len(requests)]) for number in range(size)]


def _seconds(model: Any, prompts: list[list[int]], new_tokens: int) -> float:
    """The median time to decode these prompts at once, after one run that is not counted."""
    decoder = Decoder(model, stops=(), batch_size=len(prompts))
    asked = [DecodeRequest(tuple(ids), new_tokens) for ids in prompts]
    taken = []
    for _ in range(1 + SPEED_REPEATS):
        start = time.perf_counter()
        found = decoder.decode(asked)
        taken.append(time.perf_counter() - start)
        if sum(taken[1:]) >= LONG_ENOUGH:
            break
        short = [len(tokens) for tokens in found if len(tokens) != new_tokens]
        if short:
            raise RuntimeError(f"a sequence of {short[0]} tokens came back where {new_tokens} were asked for")
    return statistics.median(taken[1:])
