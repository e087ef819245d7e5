"""Work in a process of its own on the Ray cluster, which holds a GPU for as long as the work takes."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from workers.languages.codes import given_names, name_languages
from workers.runtime.callbacks import ProgressCallback
from workers.runtime.torch_environment import prepare_torch
from workers.runtime.warned import Warnings, heard_by

log = logging.getLogger(__name__)

# Between two looks at what a process tells.
LISTEN_SECONDS = 1.0

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Resources:
    """What a process takes of its node while it works."""

    cpus: float
    gpus: float

    def options(self) -> dict[str, Any]:
        """Ray's words for it; not within what a trial that starts the process was given, as would be without a word."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "scheduling_strategy": "DEFAULT"}


def has_gpus() -> bool:
    """Whether the cluster has any."""
    import ray

    return bool(ray.cluster_resources().get("GPU", 0.0) > 0.0)


def with_a_gpu(work: Callable[..., Answer], *arguments: Any, report: ProgressCallback | None = None) -> Answer:
    """What the work answers, done where a GPU is, or a CPU on a cluster without any; else like `in_own_process`."""
    return in_own_process(Resources(1.0, 1.0 if has_gpus() else 0.0), work, *arguments, report=report)


def in_own_process(
    share: Resources, work: Callable[..., Answer], *arguments: Any, report: ProgressCallback | None = None
) -> Answer:
    """What the work, a function that its module names, answers to these arguments in a process with that share.

    report: hears, here, what the work tells, within about a second; the work takes whom to tell as its last argument
    then. What the work was warned of is warned of here. Raises what the work raised, and ConnectionError when its
    process was lost.
    """
    import ray

    task = ray.remote(max_retries=0, **share.options())(_done)
    try:
        answer: Answer
        warnings: tuple[str, ...]
        answer, warnings = (
            ray.get(task.remote(_packed(work, arguments))) if report is None else _heard(task, work, arguments, report)
        )
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
        raise ConnectionError(f"a process that worked for this trial was lost: {error}") from error
    for text in warnings:
        log.warning("%s", text)
    return answer


def _heard(task: Any, work: Callable[..., Any], arguments: tuple[Any, ...], report: ProgressCallback) -> Any:
    import ray
    from ray.util.queue import Queue

    told = Queue(actor_options={"num_cpus": 0})
    try:
        asked = task.remote(_packed(work, (*arguments, told.put)))
        while not ray.wait([asked], timeout=LISTEN_SECONDS)[0]:
            _hand_on(told, report)
        _hand_on(told, report)
        return ray.get(asked)
    finally:
        told.shutdown(force=True)


def _hand_on(told: Any, report: ProgressCallback) -> None:
    for progress in told.get_nowait_batch(told.qsize()):
        report(progress)


def _packed(work: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    """What Ray does not open: their modules may import torch, which is to see the environment first. The names that
    languages were given go with it."""
    import ray

    packed: bytes = ray.cloudpickle.dumps((given_names(), work, arguments))
    return packed


def _done(packed: bytes) -> tuple[Any, tuple[str, ...]]:
    """What the work answers, and what it was warned of."""
    prepare_torch()
    names, work, arguments = pickle.loads(packed)
    name_languages(names)
    warnings = Warnings()
    with heard_by(warnings):
        answer = work(*arguments)
    return answer, warnings.texts
