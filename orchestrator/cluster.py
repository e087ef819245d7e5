"""Joining the Ray cluster we are told of, or starting one in this process, and fitting trials to what it has."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.ledger import LedgerWriter
from orchestrator.referee import Referee
from search_spaces.errors import StudyError
from workers.actor import LEDGER_NAMESPACE
from workers.own_process import Share

# Tune places no trial that asks for nothing, and a share of a CPU could be what a training waits for.
LITTLE_MEMORY = 2**20


@dataclass(frozen=True, slots=True)
class Placement:
    """What one trial takes, and how many fit side by side. apart: whether other processes take it, for as long as they
    work for the trial, and the trial itself takes nothing."""

    cpus: float
    gpus: float
    side_by_side: int
    apart: bool = False

    @property
    def share(self) -> Share | None:
        """What the processes take that work for a trial; None where the trial works itself."""
        return Share(self.cpus, self.gpus) if self.apart else None

    def group(self) -> tune.PlacementGroupFactory:
        """All of a trial on one node."""
        bundle = {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})
        if self.apart:
            bundle = {"memory": LITTLE_MEMORY}
        return tune.PlacementGroupFactory([bundle], strategy="STRICT_PACK")


def join(address: str | None) -> bool:
    """Connect to `address` or RAY_ADDRESS, else start a local Ray; returns whether it was started here."""
    if ray.is_initialized():
        return False
    address = address or os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        try:
            ray.init(address=address, namespace=LEDGER_NAMESPACE, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise StudyError(
                f"no Ray cluster answers at {address}: {error}. Start one, or leave the address out"
            ) from error
        return False
    # "local": with no address Ray would join whatever cluster was last started on this machine.
    ray.init(address="local", include_dashboard=False, namespace=LEDGER_NAMESPACE, **quiet)
    return True


def place(cpus: float | None, gpus: float | None, most: int | None, training: int = 1, taken: float = 0.0) -> Placement:
    """Fit trials to the cluster: one GPU each where there are any, else all of a node's CPUs.

    training: how many GPUs (on a cluster without any, CPUs) train one candidate together; with more than one a trial
    holds nothing while it waits for them. taken: the part of a GPU that something else keeps. Raises StudyError when no
    node can hold one trial, or the cluster no training.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    most_cpus = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
    most_gpus = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
    if gpus is None:
        gpus = min(most_gpus, 1.0)
    if cpus is None:
        fits = most_gpus / gpus if gpus else 1.0
        cpus = max(most_cpus // max(fits, 1.0), 1.0)
    if cpus > most_cpus or gpus > most_gpus:
        raise StudyError(
            f"a trial asks for {cpus:g} CPUs and {gpus:g} GPUs, and the largest node has {most_cpus:g} and "
            f"{most_gpus:g}; ask for less with --cpus-per-trial and --gpus-per-trial, or add a node"
        )
    if training > 1:
        _refuse_few(nodes, training, taken)
    fit = sum(_fit(node, cpus, gpus) for node in nodes)
    return Placement(cpus, gpus, min(fit, most) if most else fit, apart=training > 1)


def ledger_actor(name: str, folder: str, referee: Referee | None = None) -> ray.actor.ActorHandle:
    """The one writer of this run's ledger, on the driver's node, in no CPU slot; with a referee it judges races too."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(LedgerWriter).options(
        name=name,
        namespace=LEDGER_NAMESPACE,
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
        scheduling_strategy=here,
    )
    return actor.remote(folder, referee)


def _refuse_few(nodes: list[dict[str, float]], training: int, taken: float) -> None:
    """Raise StudyError when the cluster can't train on so many GPUs together."""
    kind = "GPU" if any(node.get("GPU", 0.0) for node in nodes) else "CPU"
    there = int(sum(node.get(kind, 0.0) for node in nodes))
    whole = there - (1 if taken and kind == "GPU" else 0)
    if training > whole:
        said = f"{there} {kind}s" + (", of which COMET takes a part of one" if whole < there else "")
        raise StudyError(
            f"training_gpus is {training}, and the cluster has {said}; ask for at most {whole} with --training-gpus, "
            "or add a node"
        )


def _fit(node: dict[str, float], cpus: float, gpus: float) -> int:
    counts = [node.get(name, 0.0) / wanted for name, wanted in (("CPU", cpus), ("GPU", gpus)) if wanted]
    return int(min(counts)) if counts else 1
