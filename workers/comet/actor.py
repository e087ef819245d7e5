"""The COMET actor: one process in COMET's own environment, found by name, which scores what its cache does not know.

Only plain Python values cross: the two environments have different numpy. This module is imported by both.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search_spaces.errors import StudyError
from workers.comet.cache import ScoreCache, score_key
from workers.comet.environment import comet_python
from workers.comet.files import CometFiles, checkpoint_digest, comet_files
from workers.runtime.torch_environment import set_waiting

NAMESPACE = "mtpareto"
GPU_SHARE = 0.1
START_SECONDS = 300.0

# What this process started: Ray ends an actor whose first handle is gone.
_STARTED: dict[str, ray.actor.ActorHandle] = {}


class CometScorer:
    """A model and its cache; the model is loaded at the first pair that the cache does not know."""

    def __init__(self, files: dict[str, Any], digest: str, with_reference: bool, cache: str, gpus: float) -> None:
        set_waiting()
        self._files = files
        self._with_reference = with_reference
        self._identity = f"{digest}|fp32"
        self._cache = ScoreCache(Path(cache))
        self._on_gpu = gpus > 0
        self._model: Any = None
        self._scored = 0

    def scores(self, rows: list[tuple[str, str, str]]) -> list[float]:
        """One score a row (source, hypothesis, reference or "") on the model's own scale; new ones are kept on disk."""
        from workers.comet import model

        keys = [score_key(self._identity, *row) for row in rows]
        missing = {key: row for key, row in zip(keys, rows, strict=True) if self._cache.get(key) is None}
        if missing:
            if self._model is None:
                self._model = model.load(**self._files, on_gpu=self._on_gpu)
            samples = [_sample(row, self._with_reference) for row in missing.values()]
            self._cache.add(dict(zip(missing, model.score(self._model, samples), strict=True)))
            self._scored += len(missing)
        return [value for key in keys if (value := self._cache.get(key)) is not None]

    def about(self) -> dict[str, Any]:
        """The process, its interpreter, how many pairs it scored itself and how many its cache knows."""
        return {"pid": os.getpid(), "python": sys.executable, "scored": self._scored, "known": len(self._cache)}


def start_comet(model: str, store: Path, gpus: float | None = None) -> ray.actor.ActorHandle:
    """The actor of `model` ("comet", "cometkiwi", a hub id or a path) over the cache in `store`, started if need be.

    gpus: its share of a GPU, at most 1; None is a tenth where the cluster has GPUs (trials must leave it: ask for 0.9),
    else 0. Reserve it before trials take every GPU. The actor lives as long as the process that started it; the next
    to ask then starts another on the same cache. Raises StudyError when the files can't be had, or when the actor has
    not started within five minutes.
    """
    files = comet_files(model)
    gpus = min(_default_share() if gpus is None else gpus, 1.0)
    digest = checkpoint_digest(files.checkpoint)
    cache = store.absolute() / "comet" / f"{digest}.jsonl"
    name = f"comet:{files.name}:{hashlib.sha256(f'{cache}|{gpus > 0}'.encode()).hexdigest()[:8]}"
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        actor = _create(name, gpus).remote(_plain(files), digest, files.needs_reference, str(cache), gpus)
    try:
        ray.get(actor.about.options(concurrency_group="about").remote(), timeout=START_SECONDS)
    except ray.exceptions.GetTimeoutError as error:
        ray.kill(actor)
        raise StudyError(
            f"the COMET actor, which requires {gpus:g} of a GPU, has not started within {START_SECONDS:g} s; leave it "
            f"room with --gpus-per-trial {1 - gpus:g}, or see Ray's logs for why its Python does not start"
        ) from error
    _STARTED[name] = actor
    return actor


def _create(name: str, gpus: float) -> Any:
    # Where it is asked for, since the environment is there; elsewhere only when this node has no such GPU.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    # `about` has a thread of its own, so that asking whether the actor has started never waits for scoring.
    return ray.remote(concurrency_groups={"about": 1})(CometScorer).options(
        name=name,
        namespace=NAMESPACE,
        get_if_exists=True,
        num_cpus=0,
        num_gpus=gpus,
        max_restarts=3,
        max_task_retries=3,
        scheduling_strategy=here,
        runtime_env={"py_executable": str(comet_python())},
    )


def _plain(files: CometFiles) -> dict[str, Any]:
    return {"checkpoint": str(files.checkpoint), "hparams": files.hparams, "encoder": str(files.encoder)}


def _default_share() -> float:
    return GPU_SHARE if ray.cluster_resources().get("GPU", 0.0) else 0.0


def _sample(row: tuple[str, str, str], with_reference: bool) -> dict[str, str]:
    sample = {"src": row[0], "mt": row[1]}
    return sample | {"ref": row[2]} if with_reference else sample
