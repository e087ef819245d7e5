"""How fast training steps are on models of a real shape with random weights: cached against live, and a LoRA step."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from search_spaces.methods.trainers import Recover
from workers.benches.compression_speed import SHAPES, Shape, random_model, timed
from workers.calibration.sequences import Shown
from workers.loading.load import default_device
from workers.reading.segments import Segment
from workers.runtime.gpu_memory import release_memory
from workers.runtime.training_progress import Progress
from workers.training.data.batches import micro_batches
from workers.training.data.pairs_file import pairs_writer
from workers.training.data.tokenized_pairs import TokenizedPairs
from workers.training.loop.learner import Learner
from workers.training.loop.one_device import Task, train
from workers.training.model_forms.lora import add_adapters
from workers.training.teachers.cache import open_cache
from workers.training.teachers.teacher import CachedTeacher, LiveTeacher, Teacher, fill

# Lengths of a translation LLM's training pairs: prompts of 40 to 160 tokens, translations of 20 to 120.
PROMPT_TOKENS = (40, 160)
TARGET_TOKENS = (20, 120)
PAIRS = 2048
BATCH = 256
# Padded tokens a micro-batch at most; with compiled layers its activations fit beside 7B weights on 80 GB.
MICRO_TOKENS = 16_384
STEPS = 6
# Of the steps, those before the timing: kernels are chosen and memory is found in them.
WARM_UP = 2
TIMED = (
    f"LoRA of rank 16 beside all linear layers, {BATCH} pairs a step with prompts of {PROMPT_TOKENS[0]} to "
    f"{PROMPT_TOKENS[1]} tokens and translations of {TARGET_TOKENS[0]} to {TARGET_TOKENS[1]}, micro-batches of at most "
    f"{MICRO_TOKENS} padded tokens, layers compiled (rate) or not (cached), {STEPS - WARM_UP} steps after {WARM_UP}"
)
MATRIX = 8192
MATRIX_REPEATS = 50

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Pace:
    """tokens_s: real tokens a second, prompts included, after the warm-up. peak_gib: torch's peak of allocated GPU
    memory; 0 on a CPU. notes: what the training said, such as a smaller micro-batch."""

    tokens_s: float
    peak_gib: float
    notes: tuple[str, ...]


def cached_figures(name: str, say: Say) -> dict[str, float]:
    """Tokens a second of a LoRA student distilled from a teacher of the same shape, live and from a filled cache."""
    device, shape = default_device(), SHAPES[name]
    step = Recover(adapter="lora", loss="forward_kl", schedule="inverse_sqrt", batch=BATCH)
    with tempfile.TemporaryDirectory() as scratch:
        pairs = random_pairs(Path(scratch) / "pairs", shape.vocabulary, PAIRS)
        live = LiveTeacher(random_model(shape, device))
        paces = {"live": pace(_learner(shape, step, live, device), pairs, step, device, Path(scratch) / "live")}
        say(f"live teacher: {paces['live'].tokens_s:.0f} tokens/s")
        cache = open_cache(Path(scratch), {"teacher": name, "pairs": pairs.digest}, shape.vocabulary)
        fill(cache, live, micro_batches(pairs, range(len(pairs)), MICRO_TOKENS), device)
        bytes_a_token = float(cache.bytes_per_token)
        del live
        release_memory()
        cached = CachedTeacher(cache)
        step = replace(step, teacher="cached")
        paces["cached"] = pace(_learner(shape, step, cached, device), pairs, step, device, Path(scratch) / "cached")
        say(f"cached teacher: {paces['cached'].tokens_s:.0f} tokens/s")
    return {
        "cached_over_live_tokens_s": paces["cached"].tokens_s / paces["live"].tokens_s,
        "live_tokens_s": paces["live"].tokens_s,
        "cached_tokens_s": paces["cached"].tokens_s,
        "cache_bytes_a_token": bytes_a_token,
    }


def rate_figures(name: str, say: Say, compiled: bool = True) -> dict[str, float]:
    """A LoRA step on references at a large shape: 4 x parameters x tokens a second, over the measured matrix rate.

    Four: two operations a weight and token in the forward pass, two in the backward for activations; frozen weights
    have no gradient of their own. Parameters: those of linear layers and head; tokens: real ones. compiled: whether the
    layers run as those of a training whose budget is worth it do (`worth_compiling`); the six steps here are not.
    """
    device, shape = default_device(), SHAPES[name]
    rate = matrix_rate(device)
    say(f"matrix rate: {rate / 1e12:.0f} TFLOP/s")
    step = Recover(adapter="lora", dropout=0.0, loss="references", schedule="inverse_sqrt", batch=BATCH)
    learner = _learner(shape, step, None, device)
    parameters = linear_parameters(learner)
    with tempfile.TemporaryDirectory() as scratch:
        pairs = random_pairs(Path(scratch) / "pairs", shape.vocabulary, PAIRS)
        found = pace(learner, pairs, step=step, device=device, folder=Path(scratch) / "checkpoints", compile=compiled)
    say(f"LoRA on {name}: {found.tokens_s:.0f} tokens/s, {found.peak_gib:.1f} GiB; {'; '.join(found.notes)}")
    return {
        "lora_7b_matrix_rate_share": 4 * parameters * found.tokens_s / rate,
        "lora_7b_tokens_s": found.tokens_s,
        "lora_7b_peak_gib": found.peak_gib,
        "matrix_rate_tflops": rate / 1e12,
    }


def pace(
    learner: nn.Module,
    pairs: TokenizedPairs,
    step: Recover,
    device: torch.device,
    folder: Path,
    compile: bool = False,
) -> Pace:
    """Train STEPS optimizer steps and time those after the warm-up. compile: the learner's decoder layers, in it."""
    a_step = pairs.tokens / len(pairs) * step.batch
    reports: list[tuple[float, int]] = []

    def note(progress: Progress) -> None:
        reports.append((time.perf_counter(), progress.tokens))

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    done = train(
        Task(
            learner=learner,
            pairs=pairs,
            step=replace(step, tokens=int(STEPS * a_step)),
            seed=0,
            device=device,
            checkpoints=folder,
            held_out=None,
            report=note,
            micro_tokens=MICRO_TOKENS,
            compile=compile,
            checkpoint_seconds=1e9,
        )
    )
    late = [one for one in reports if one[1] >= WARM_UP * a_step]
    if len(late) < 2:
        raise RuntimeError(f"{STEPS} steps ended before their speed could be told ({len(reports)} reports)")
    (began, first), (ended, last) = late[0], late[-1]
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
    return Pace((last - first) / (ended - began), peak, done.notes)


def random_pairs(folder: Path, vocabulary: int, count: int, seed: int = 0) -> TokenizedPairs:
    """Pairs of random ids with lengths drawn uniformly, as `tokenize_pairs` would have written them."""
    draw = random.Random(seed)
    folder.mkdir(parents=True)
    with pairs_writer(folder, [("en-de", 1.0)]) as writer:
        for number in range(count):
            prompt, target = draw.randint(*PROMPT_TOKENS), draw.randint(*TARGET_TOKENS)
            ids = tuple(draw.randrange(3, vocabulary) for _ in range(prompt + target))
            writer.add(
                Segment(id=str(number), langs="en-de", source="-", references=("-",), doc_id=str(number), domain=""),
                Shown(ids, prompt),
                1.0,
            )
        writer.finish(f"random-{vocabulary}-{count}-{seed}", {})
    return TokenizedPairs(folder)


def matrix_rate(device: torch.device) -> float:
    """Operations a second of a bfloat16 product of two square matrices of MATRIX, the device warm."""
    size = MATRIX if device.type == "cuda" else 256
    one = torch.randn(size, size, device=device, dtype=torch.bfloat16)

    def products() -> None:
        for _ in range(MATRIX_REPEATS):
            one @ one

    products()
    return 2 * size**3 * MATRIX_REPEATS / timed(products, device).seconds


def linear_parameters(learner: Any) -> int:
    """Weights of the linear layers and the head, adapters left out."""
    modules = learner.named_modules()
    return sum(
        module.weight.numel() for name, module in modules if isinstance(module, nn.Linear) and ".lora_" not in name
    )


def _learner(shape: Shape, step: Recover, teacher: Teacher | None, device: torch.device) -> nn.Module:
    model, _ = add_adapters(random_model(shape, device), step, 0)
    return Learner(model, step, teacher)
