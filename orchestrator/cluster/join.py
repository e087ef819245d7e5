"""Joining the Ray cluster we are told of, or starting one in this process, and fitting trials to what it has."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.cluster import local_ray
from orchestrator.cluster.address import WAYS_OUT, asked_for, probe, reachable
from orchestrator.ledger.records import LedgerWriter
from orchestrator.racing.referee import Referee
from orchestrator.stopping.signals import RunningCommand
from search_spaces.errors import StudyError
from workers.evaluation.trial_actor import LEDGER_NAMESPACE
from workers.runtime.ray_process import Resources

# A head that is restarted may take a few; then a search that waits on would look like one that works.
LOST_SECONDS = 8.0
RAY_WAITS = "RAY_gcs_rpc_server_reconnect_timeout_s"
PROBE_EVERY_SECONDS = 2.0
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
    def share(self) -> Resources | None:
        """What the processes take that work for a trial; None where the trial works itself."""
        return Resources(self.cpus, self.gpus) if self.apart else None

    def group(self) -> tune.PlacementGroupFactory:
        """All of a trial on one node."""
        bundle = {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})
        if self.apart:
            bundle = {"memory": LITTLE_MEMORY}
        return tune.PlacementGroupFactory([bundle], strategy="STRICT_PACK")


@dataclass(frozen=True, slots=True)
class Joined:
    """A cluster that this process is connected to; `folder` is that of a Ray that was started here."""

    work: RunningCommand
    folder: Path | None = None

    def leave(self) -> None:
        """End a Ray that was started here; one that was there stays, and this process connected to it."""
        if (look := self.work.lost) is not None and (why := look()) is not None:
            self.work.give_up(why)
        self.work.lost = None
        if self.folder is not None:
            local_ray.leave(self.folder)
            self.work.ray_folder = None


def join(address: str | None, work: RunningCommand | None = None) -> Joined:
    """Connect to `address` or RAY_ADDRESS, else start a local Ray.

    work: is told of the Ray that is there, and of its loss. Raises StudyError, within seconds, when no cluster answers.
    """
    work = work or RunningCommand()
    if ray.is_initialized():
        return Joined(work)
    asked = asked_for(address, os.environ)
    settings = {"namespace": LEDGER_NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    if asked is None:
        work.lost = local_ray.start(settings, work.begin_ray)
        return Joined(work, work.ray_folder)
    target = reachable(*asked)
    local_ray.noise_to_stderr()
    try:
        ray.init(address=target, **settings)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise StudyError(f"the Ray cluster at {target} can't be joined: {error}. Fix that, or {WAYS_OUT}") from error
    work.lost = _unreachable_since(_ports(target))
    return Joined(work)


def _ports(target: str) -> list[tuple[str, str, int]]:
    """Name, host and port of what this driver can't do without: the cluster's head, and the raylet of its node."""
    host, _, port = target.rpartition(":")
    here = ray.get_runtime_context().get_node_id()
    node = next(node for node in ray.nodes() if node["NodeID"] == here)
    raylet = ("the raylet of this node", str(node["NodeManagerAddress"]), int(node["NodeManagerPort"]))
    return [("Ray's head", host.strip("[]"), int(port)), raylet]


def _unreachable_since(
    ports: Sequence[tuple[str, str, int]],
    clock: Callable[[], float] = time.monotonic,
    answers: Callable[[str, int], str | None] = probe,
) -> Callable[[], str | None]:
    """What says which of them has not answered for LOST_SECONDS, or as long as Ray is told to wait; None otherwise."""
    most = float(os.environ.get(RAY_WAITS, LOST_SECONDS))
    since: dict[str, float] = {}
    looked = -math.inf

    def lost() -> str | None:
        nonlocal looked
        if clock() - looked < PROBE_EVERY_SECONDS:
            return None
        looked = clock()
        for name, host, port in ports:
            if answers(host, port) is None:
                since.pop(name, None)
            elif looked - since.setdefault(name, looked) >= most:
                return f"{name} at {host}:{port} has not answered for {looked - since[name]:.0f} s"
        return None

    return lost


def place(cpus: float | None, gpus: float | None, most: int | None, training: int = 1, taken: float = 0.0) -> Placement:
    """Fit trials to the cluster: one GPU each where there are any, with the CPUs that leave every GPU its trial; else
    all of a node's CPUs.

    training: how many GPUs (on a cluster without any, CPUs) train one candidate together; with more than one a trial
    holds nothing while it waits for them. taken: the part of a GPU that something else keeps. Raises StudyError when no
    node can hold one trial, a trial takes nothing, or the cluster can hold no training.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if gpus is None:
        gpus = min(_most(nodes, "GPU"), 1.0)
    if cpus is None:
        cpus = _usual_cpus(nodes, gpus)
    if gpus > 1.0 and gpus % 1.0:
        raise StudyError(f"a trial can't run on {gpus:g} GPUs: above one they are whole; say so with --gpus-per-trial")
    if not cpus and not gpus:
        raise StudyError("a trial can't run on 0 CPUs and 0 GPUs; give more with --cpus-per-trial, or leave it out")
    # Tune takes a limit of 0 for none, and waits for ever.
    fit = sum(_fit(node, cpus, gpus) for node in nodes)
    if not fit:
        raise StudyError(
            f"a trial requires {cpus:g} CPUs and {gpus:g} GPUs, and {_spell_largest(nodes, gpus)}; "
            "give less with --cpus-per-trial and --gpus-per-trial, or add a node"
        )
    if training > 1:
        _refuse_few(nodes, training, taken)
    return Placement(cpus, gpus, min(fit, most) if most else fit, apart=training > 1)


def ledger_actor(name: str, folder: str, referee: Callable[[], Referee] | None = None) -> ray.actor.ActorHandle:
    """The one writer of this run's ledger, on the driver's node, in no CPU slot; with a referee it judges races too.

    referee: makes it there, at every start: Ray keeps no large argument for an actor that it starts again.
    """
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


def _usual_cpus(nodes: list[dict[str, float]], gpus: float) -> float:
    """A trial's CPUs where none are asked for: the least that a node with GPUs has beside each trial's GPUs."""
    if not gpus:
        return max(_most(nodes, "CPU") // 1.0, 1.0)
    holders = [node for node in nodes if node.get("CPU", 0.0) >= 1.0 and node.get("GPU", 0.0) >= gpus]
    beside = (node["CPU"] // (node["GPU"] / gpus) for node in holders)
    return max(min(beside, default=1.0), 1.0)


def _spell_largest(nodes: list[dict[str, float]], gpus: float) -> str:
    """Why no node can hold a trial that takes so many GPUs, in words."""
    if not gpus:
        return f"the largest node has {_most(nodes, 'CPU'):g} CPUs"
    there = sorted({(node.get("CPU", 0.0), node["GPU"]) for node in nodes if node.get("GPU", 0.0)})
    if not there:
        return "no node has a GPU"
    said = ", ".join(f"{cpus:g} CPUs and {count:g} GPUs" for cpus, count in there)
    return f"no node has both: with GPUs there are nodes with {said}"


def _most(nodes: list[dict[str, float]], name: str) -> float:
    return max((node.get(name, 0.0) for node in nodes), default=0.0)


def _refuse_few(nodes: list[dict[str, float]], training: int, taken: float) -> None:
    """Raise StudyError when the cluster can't train on so many GPUs together."""
    kind = "GPU" if any(node.get("GPU", 0.0) for node in nodes) else "CPU"
    there = int(sum(node.get(kind, 0.0) for node in nodes))
    whole = there - (1 if taken and kind == "GPU" else 0)
    if training > whole:
        said = f"{there} {kind}s" + (", of which COMET takes a part of one" if whole < there else "")
        raise StudyError(
            f"training_gpus is {training}, and the cluster has {said}; give at most {whole} with --training-gpus, "
            "or add a node"
        )


def _fit(node: dict[str, float], cpus: float, gpus: float) -> int:
    counts = [node.get("CPU", 0.0) / cpus] if cpus else []
    if gpus:
        # A share is of one GPU.
        counts.append(int(1.0 / gpus) * node.get("GPU", 0.0) if gpus < 1.0 else node.get("GPU", 0.0) / gpus)
    return int(min(counts))
