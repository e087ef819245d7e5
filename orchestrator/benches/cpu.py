"""`mtpareto bench cpu`: how evenly the shipped model decodes on cores that another program wants too."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.benches.figures import CPU
from orchestrator.benches.results_file import write_record
from orchestrator.stopping.signals import RunningCommand
from orchestrator.study.shipped import SHIPPED_MODEL
from search_spaces.errors import StudyError
from workers.checkpoints.locate import resolve
from workers.plan.conditions import device_name, installed_versions
from workers.reading.dataset import read_dataset
from workers.reading.segments import Segment
from workers.runtime.torch_environment import WAIT_VARIABLES, set_waiting

BATCHES = (64, 128)
REPEATS = 10
# Figures with the setting have no prefix.
ARMS: dict[str, Callable[[], None]] = {"": set_waiting, "spinning_": lambda: None}
DISTRIBUTIONS = ("torch", "transformers", "ray")


def bench_cpu(
    output: Path, data: str, command: str, say: Callable[[str], None], under_way: RunningCommand | None = None
) -> dict[str, Any]:
    """Decode in Ray workers whose threads sleep while they wait and in some whose threads spin, beside a neighbour,
    and write the results file and its page; returns what was written.

    Takes minutes, of which the spinning take most. Raises StudyError where the data has too few segments, and where
    RAY_ADDRESS names a cluster: it is this machine's cores that are measured.
    """
    if address := os.environ.get("RAY_ADDRESS"):
        raise StudyError(f"RAY_ADDRESS is {address}, and the bench starts a Ray of its own here; unset it")
    dataset = read_dataset(data)
    if len(dataset.segments) < max(BATCHES):
        raise StudyError(f"{data} has {len(dataset.segments)} segments, and {max(BATCHES)} are decoded; name more")
    base, folder = resolve(str(SHIPPED_MODEL))
    values: dict[str, float] = {}
    neighbours = 0
    for prefix, set_policy in ARMS.items():
        with _policy(set_policy):
            seconds, neighbours = _seconds(folder, dataset.segments, say, under_way)
        values |= {f"{prefix}{name}": value for name, value in figures(seconds).items()}
    record = {
        "figures": {name: round(value, 4) for name, value in values.items()},
        "conditions": {
            "device": device_name("cpu"),
            "neighbour": f"{neighbours} of {len(os.sched_getaffinity(0))} cores kept busy by another program",
            "repeats": str(REPEATS),
            "model": f"{folder.name} {base.revision[:23]}",
            "data": f"{dataset.name} sha256:{dataset.digest[:16]}, its first {', '.join(map(str, BATCHES))} segments",
            "date": datetime.now(UTC).date().isoformat(),
            "python": platform.python_version(),
            **installed_versions(DISTRIBUTIONS),
        },
        "command": command,
    }
    write_record(output, CPU, record)
    return record


def figures(seconds: Mapping[int, Sequence[float]]) -> dict[str, float]:
    """Batch -> seconds of each run, as the bench's figures."""
    values: dict[str, float] = {}
    for batch, runs in seconds.items():
        values |= {
            f"worst_over_best_b{batch}": max(runs) / min(runs),
            f"best_s_b{batch}": min(runs),
            f"median_s_b{batch}": statistics.median(runs),
            f"worst_s_b{batch}": max(runs),
        }
    return values


def _seconds(
    folder: Path, segments: Sequence[Segment], say: Callable[[str], None], under_way: RunningCommand | None
) -> tuple[dict[int, list[float]], int]:
    """Batch -> seconds of each run in a worker of a Ray that inherits this process's environment, and how many
    processes there were beside it."""
    import ray

    from orchestrator.cluster.join import join
    from workers.benches.cpu_bench import decode_seconds, neighbour

    joined = join("local", under_way)
    taken: dict[int, list[float]] = {}
    try:
        work = ray.remote(num_cpus=int(ray.cluster_resources()["CPU"]))(decode_seconds)
        with neighbour() as beside:
            for batch in BATCHES:
                taken[batch] = ray.get(work.remote(str(folder), segments[:batch], REPEATS))
                said = ", ".join(f"{value:.2f}" for value in taken[batch])
                say(f"{os.environ.get(WAIT_VARIABLES[0], 'no policy')}, {batch} segments: {said} s")
    finally:
        joined.leave()
    return taken, beside


@contextmanager
def _policy(set_policy: Callable[[], None]) -> Iterator[None]:
    """This process's environment with that policy alone, whatever was set before."""
    before = {name: os.environ.pop(name) for name in WAIT_VARIABLES if name in os.environ}
    set_policy()
    try:
        yield
    finally:
        for name in WAIT_VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(before)
