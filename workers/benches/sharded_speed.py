"""DeepSpeed's ZeRO-2 and ZeRO-3 on two devices against the training on one: loss curves, tokens a second, memory.

All trainings read the same rows a step from the same random weights, each in processes of its own, whose memory is free
afterwards. They end with the last step: the parent ends the processes before a checkpoint or trained weights are
written. Numbers are made as in any training: nothing of torch's settings is touched.
"""

from __future__ import annotations

import os
import random
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import distributed

from search_spaces.errors import StudyError
from search_spaces.methods.trainers import Finetune
from workers.benches.compression_speed import SHAPES, random_model
from workers.calibration.sequences import Shown
from workers.loading.load import default_device
from workers.reading.segments import Segment
from workers.runtime.training_progress import Progress
from workers.training.data.pairs_file import pairs_writer
from workers.training.data.sampling import choose_rows
from workers.training.data.tokenized_pairs import TokenizedPairs
from workers.training.loop.learner import Learner
from workers.training.loop.one_device import Task, train
from workers.training.teachers.choose_teacher import fitting_tokens
from workers.training.zero.configs import Stage

PROCESSES = 2
SEED = 0
RATE = 3e-4
# Steps until the rate is at its peak.
WARM_UP = 4
# The shape that a CPU is given too.
TINY = "small"
# Seconds after which a training that has not ended is given up.
LIMIT = 300.0
# Seconds between checkpoints: none is written on the way.
NEVER = float("inf")
# Source tokens are drawn with this mean rank, the common ones first: so there is something to learn.
COMMON = 80
# So much faster runs a clock by which every step takes more than a second.
HURRY = 1e6

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Load:
    """What is trained on."""

    batch: int
    """Sequences in a step."""
    steps: int
    """How many optimizer steps."""
    untimed: int
    """How many of the steps come before the timing."""
    lengths: tuple[int, int]
    """Shortest and longest sequence in tokens; half of a sequence is its translation."""
    micro_tokens: int
    """Padded tokens in a micro-batch; 0 means that they are worked out from the GPU's memory."""


# So many pairs that a process's share of a step fills its micro-batches as one process's whole step does.
LARGE_LOAD = Load(batch=1024, steps=8, untimed=3, lengths=(96, 256), micro_tokens=0)
TINY_LOAD = Load(batch=8, steps=8, untimed=2, lengths=(8, 32), micro_tokens=128)


class SpeedReport(NamedTuple):
    """A report of a training. seconds: when it came, from anywhere. tokens: read so far. loss: mean a target token, in
    nats, since the report before."""

    seconds: float
    tokens: int
    loss: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What a training showed. peak_gib: torch's peak of allocated memory on the first GPU; 0 on a CPU."""

    reports: tuple[SpeedReport, ...]
    peak_gib: float


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """A way to do the same training."""

    what: str
    """The way in words."""
    processes: int
    """How many processes train together."""
    stage: Stage | Literal[0]
    """The stage of ZeRO; 0 is the training on one device."""
    micro_share: float = 1.0
    """The micro-batch as a share of the load's."""
    as_it_is: bool = False
    """Whether reports come about once a second, as in any training. Else they come after every step, and each waits for
    the GPU."""


WAYS: dict[str, TrainingSetup] = {
    "one_gpu": TrainingSetup("one device", 1, 0, as_it_is=True),
    "zero2": TrainingSetup("ZeRO-2", PROCESSES, 2),
    "zero3": TrainingSetup("ZeRO-3", PROCESSES, 3),
    "one_gpu_halved": TrainingSetup("one device, micro-batches of half the size", 1, 0, micro_share=0.5),
    "zero2_1gpu": TrainingSetup("ZeRO-2 by one process", 1, 2),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a process is told."""

    shape: str
    """The name of the model's shape."""
    way: TrainingSetup
    """How to train."""
    step: Finetune
    """The step that is trained."""
    pairs: Path
    """The folder of the training pairs."""
    folder: Path
    """A folder for the checkpoints of this training alone."""
    port: int
    """Where the processes of a group meet."""
    micro_tokens: int
    """Padded tokens in a micro-batch."""


def refuse_too_few_devices(name: str) -> None:
    """Raise StudyError for an unknown shape, and where there are not two GPUs; a CPU does for the tiny shape."""
    if name not in SHAPES:
        raise StudyError(f"shape is {name!r}; there are {', '.join(sorted(SHAPES))}")
    count = torch.cuda.device_count()
    if count >= PROCESSES or (count == 0 and name == TINY):
        return
    there = f"one {torch.cuda.get_device_name(0)}" if count else "no GPU"
    raise StudyError(
        f"the part sharded trains {name} on {PROCESSES} GPUs of one host, and there is {there}; take a host with two, "
        f"or --shape {TINY} on a host without any, where {PROCESSES} processes share the CPU"
    )


def sharded_figures(name: str, say: Say) -> dict[str, float]:
    """Train in every one of WAYS, and compare. Raises RuntimeError at the end when one failed, after what the others
    showed was said."""
    shape, load = SHAPES[name], load_of(name)
    seen: dict[str, Seen] = {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        pairs = translated_pairs(Path(scratch) / "pairs", shape.vocabulary, load)
        step = step_of(pairs, load)
        for key, way in WAYS.items():
            began = time.perf_counter()
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                work = Work(
                    shape=name,
                    way=way,
                    step=step,
                    pairs=pairs.folder,
                    folder=Path(folder),
                    port=_free_port(),
                    micro_tokens=int(load.micro_tokens * way.micro_share),
                )
                try:
                    one = _seen(work)
                    speed = _tokens_s(one.reports, load)
                except _Failed as error:
                    failed.append(f"{way.what}: {error}")
                    say(failed[-1])
                    continue
            seen[key] = one
            took = time.perf_counter() - began
            say(f"{way.what}: {speed:.0f} tokens/s, {one.peak_gib:.1f} GiB (took {took:.0f} s)")
    figures = compared(seen, load) | {"sharded_parameters": float(_parameters(name))}
    for key, value in figures.items():
        say(f"{key} {value:g}")
    if failed:
        raise RuntimeError(f"of {len(WAYS)} trainings, {len(failed)} failed ({'; '.join(failed)})")
    return figures


def compared(seen: Mapping[str, Seen], load: Load) -> dict[str, float]:
    """The figures of those trainings that are there: speed, memory, speed over one device's, and the largest and mean
    gap between loss curves, of which that of `one_gpu_halved` is the noise."""
    figures: dict[str, float] = {}
    for key, one in seen.items():
        figures |= {f"{key}_tokens_s": _tokens_s(one.reports, load), f"{key}_peak_gib": one.peak_gib}
    if "one_gpu" not in seen:
        return figures
    alone = seen["one_gpu"]
    figures["curve_points"] = float(len(alone.reports))
    for key in (key for key in seen if key != "one_gpu"):
        apart = curve_gaps(alone.reports, seen[key].reports)
        figures |= {f"{key}_curve_gap": max(apart), f"{key}_curve_gap_mean": sum(apart) / len(apart)}
    for key in (key for key in ("zero2", "zero3") if key in seen):
        figures[f"{key}_speedup_{PROCESSES}gpu"] = figures[f"{key}_tokens_s"] / figures["one_gpu_tokens_s"]
    return figures


def curve_gaps(curve: Sequence[SpeedReport], finer: Sequence[SpeedReport]) -> list[float]:
    """How far two losses are apart, in nats a target token, over each stretch between the reports of the first.

    finer: reports at least where the first has them; raises ValueError where not. A stretch's loss is that of its
    parts, weighed by their tokens, half of which are target tokens.
    """
    apart, start = [], 0
    for point in curve:
        ends = [0, *(part.tokens for part in finer)]
        parts = [
            (part.loss, part.tokens - before)
            for part, before in zip(finer, ends, strict=False)
            if start < part.tokens <= point.tokens
        ]
        read = sum(tokens for _, tokens in parts)
        if read != point.tokens - start:
            raise ValueError(f"one curve has a point after {point.tokens} tokens, and the other has none there")
        apart.append(abs(point.loss - sum(loss * tokens for loss, tokens in parts) / read))
        start = point.tokens
    return apart


def conditions(name: str) -> str:
    """What the figures were taken under, in words."""
    load = load_of(name)
    count = torch.cuda.device_count()
    where = f"{PROCESSES} of {count} {torch.cuda.get_device_name(0)} (NCCL)" if count else "processes on a CPU (gloo)"
    return (
        f"{where}, all weights of {name} on references at a rate of {RATE:g} after {WARM_UP} steps of warm-up, "
        f"{load.batch} pairs a step of {load.lengths[0]} to {load.lengths[1]} tokens, micro-batches of at most "
        f"{load.micro_tokens} padded tokens (halved: {load.micro_tokens // 2}), {load.steps - load.untimed} steps "
        f"after {load.untimed}, seed {SEED}"
    )


def load_of(name: str) -> Load:
    """What a shape is trained on; on a GPU the micro-batches are as large as a training of it begins with."""
    load = TINY_LOAD if name == TINY else LARGE_LOAD
    if load.micro_tokens:
        return load
    shape, memory = SHAPES[name], torch.cuda.get_device_properties(0).total_memory
    return replace(load, micro_tokens=fitting_tokens(_parameters(name), shape.layers, shape.hidden, memory))


def translated_pairs(folder: Path, vocabulary: int, load: Load) -> TokenizedPairs:
    """Pairs whose sources are drawn tokens, some of them common, and whose translations are the same tokens under a
    fixed table, so that losses fall; as `tokenize_pairs` would have written them."""
    draw = random.Random(SEED)
    words = list(range(3, vocabulary))
    table = words[:]
    draw.shuffle(table)
    folder.mkdir(parents=True)
    with pairs_writer(folder, [("en-de", 1.0)]) as writer:
        for number in range(load.batch * load.steps):
            half = draw.randint(*load.lengths) // 2
            places = [min(int(draw.expovariate(1 / COMMON)), len(words) - 1) for _ in range(half)]
            ids = tuple([words[place] for place in places] + [table[place] for place in places])
            writer.add(
                Segment(id=str(number), langs="en-de", source="-", references=("-",), doc_id=str(number), domain=""),
                Shown(ids, half),
                1.0,
            )
        writer.finish(f"translated-{vocabulary}-{load.batch * load.steps}-{SEED}", {})
    return TokenizedPairs(folder)


def step_of(pairs: TokenizedPairs, load: Load) -> Finetune:
    """The training of all weights, its budget the tokens of just so many steps."""
    tokens = sum(
        pairs.length(row)
        for number in range(load.steps)
        for row in choose_rows(pairs, step=number, batch=load.batch, seed=SEED)
    )
    return Finetune(
        tokens=tokens, loss="references", rate=RATE, schedule="inverse_sqrt", warm_up=WARM_UP, batch=load.batch
    )


class _Failed(RuntimeError):
    """A training ended without an answer, or with one that tells no speed."""


def _seen(work: Work) -> Seen:
    """What the training showed; its processes are ended then, and when one of them has failed."""
    spawning = get_context("spawn")
    receiver, sender = spawning.Pipe(duplex=False)
    with receiver, sender:
        started = [
            spawning.Process(target=_process, args=(rank, work, sender), daemon=True)
            for rank in range(work.way.processes)
        ]
        try:
            for process in started:
                process.start()
            return _answer(receiver, started)
        finally:
            # The first one last: others would say of it that it was lost.
            for process in reversed(started):
                process.kill()
            for process in started:
                process.join()


def _answer(receiver: Connection[Any, Seen], started: Sequence[BaseProcess]) -> Seen:
    ready = wait([receiver, *(process.sentinel for process in started)], LIMIT)
    if receiver in ready:
        return receiver.recv()
    if not ready:
        raise _Failed(f"had not ended after {LIMIT:.0f} s")
    ended = next(process for process in started if process.sentinel in ready)
    # Its sentinel may be there before its exit code.
    ended.join()
    raise _Failed(f"a process failed with exit code {ended.exitcode}; what it raised is above")


class _Watch:
    """Takes a training's reports. After the last one it answers the parent, which then ends the processes."""

    def __init__(self, device: torch.device, sender: Connection[Seen, Any]) -> None:
        self._device = device
        self._sender = sender
        self._reports: list[SpeedReport] = []

    def __call__(self, progress: Progress) -> None:
        if self._reports and progress.tokens <= self._reports[-1].tokens:
            raise RuntimeError(f"the loss was not finite: the training went back to {progress.tokens} tokens")
        self._reports.append(SpeedReport(time.perf_counter(), progress.tokens, progress.loss))
        if progress.tokens < progress.of:
            return
        peak = torch.cuda.max_memory_allocated(self._device) / 2**30 if self._device.type == "cuda" else 0.0
        self._sender.send(Seen(tuple(self._reports), peak))
        parent = parent_process()
        assert parent is not None
        parent.join()


def _process(rank: int, work: Work, sender: Connection[Seen, Any]) -> None:
    if default_device().type == "cpu":
        torch.set_num_threads(1)
    if work.way.stage == 0:
        _alone(work, sender)
    else:
        _sharded(rank, work, work.way.stage, sender)


def _alone(work: Work, sender: Connection[Seen, Any]) -> None:
    """The training on one device."""
    device = default_device()
    watch = _Watch(device, sender)
    learner = _learner(work, device)

    def report(progress: Progress) -> None:
        if learner.model.is_gradient_checkpointing:
            raise RuntimeError(f"memory did not suffice for micro-batches of {work.micro_tokens} tokens")
        watch(progress)

    train(
        Task(
            learner=learner,
            pairs=TokenizedPairs(work.pairs),
            step=work.step,
            seed=SEED,
            device=device,
            checkpoints=work.folder,
            held_out=None,
            report=report,
            micro_tokens=work.micro_tokens,
            checkpoint_seconds=NEVER,
            clock=_clock(work),
        )
    )


def _sharded(rank: int, work: Work, stage: Stage, sender: Connection[Seen, Any]) -> None:
    """One process of a sharded training."""
    from workers.training.zero.engine import RankTask, train_rank

    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": work.way.processes, "MASTER_ADDR": "127.0.0.1"}
    os.environ.update({name: str(value) for name, value in (place | {"MASTER_PORT": work.port}).items()})
    device = default_device()
    if device.type == "cuda":
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
        distributed.init_process_group("nccl", device_id=device)
    else:
        distributed.init_process_group("gloo")
    train_rank(
        RankTask(
            build=lambda where: _learner(work, where),
            pairs=TokenizedPairs(work.pairs),
            step=work.step,
            seed=SEED,
            stage=stage,
            device=device,
            checkpoints=work.folder,
            out=work.folder / "trained",
            report=_Watch(device, sender),
            micro_tokens=work.micro_tokens,
            checkpoint_seconds=NEVER,
            clock=_clock(work),
        )
    )


def _learner(work: Work, device: torch.device) -> Learner:
    """Random weights as a finetuning begins with: float32, with values that bfloat16 has on a GPU."""
    return Learner(random_model(SHAPES[work.shape], device).float(), work.step, None)


def _clock(work: Work) -> Callable[[], float]:
    """By which a training reports about once a second; hurried, after every step."""
    return time.monotonic if work.way.as_it_is and work.shape != TINY else _hurried


def _hurried() -> float:
    return HURRY * time.monotonic()


def _tokens_s(reports: Sequence[SpeedReport], load: Load) -> float:
    """Tokens a second after the untimed steps."""
    late = [one for one in reports if one.tokens >= reports[-1].tokens * load.untimed / load.steps]
    if len(late) < 2:
        raise _Failed(f"{load.steps} steps ended before their speed could be told ({len(reports)} reports)")
    return (late[-1].tokens - late[0].tokens) / (late[-1].seconds - late[0].seconds)


def _parameters(name: str) -> int:
    return sum(one.numel() for one in random_model(SHAPES[name], torch.device("meta")).parameters())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
