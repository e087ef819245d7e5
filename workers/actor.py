"""The GPU actor: a Ray Tune trainable that measures one candidate a `step()` and reports only what the ledger has kept.

One process serves trial after trial (`reuse_actors`), so imports and the CUDA context are paid for once.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from datetime import UTC, datetime
from typing import Any

import ray
from ray.tune import Trainable

from search_spaces.candidate import candidate_from_json
from search_spaces.outcome import Measurement, outcome_from_json
from workers.attempt import attempt
from workers.evaluation import EvaluationPlan

LEDGER_NAMESPACE = "mtpareto"
LEFT_BEHIND_BYTES = 512 * 2**20


class CompressionTrial(Trainable):
    """config: what the searcher suggests: `number`, `candidate`, `split`, `choices`, `predicted_bytes`."""

    def setup(self, config: dict[str, Any], plan: EvaluationPlan, ledger: str) -> None:
        """plan: what every candidate is measured under. ledger: the name of the ledger's actor."""
        self._plan = plan
        self._ledger = ray.get_actor(ledger, namespace=LEDGER_NAMESPACE)
        self._trial = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in the same process; False (a new process) when GPU memory was left behind."""
        self._trial = new_config
        return release_memory()

    def step(self) -> dict[str, Any]:
        """Measure the candidate, wait until the ledger has the outcome on disk, and report it."""
        record = {key: self._trial[key] for key in ("number", "candidate", "split", "choices", "predicted_bytes")}
        known, number = ray.get(self._ledger.begin.remote(record))
        if known is not None:
            return report(known)
        started = _now()
        candidate = candidate_from_json(record["candidate"])
        outcome, hypotheses = attempt(candidate, record["split"], self._plan)
        record |= {
            "outcome": outcome.to_json(),
            "attempt": number,
            "started": started,
            "ended": _now(),
            "worker": _place(),
        }
        kept = ray.get(self._ledger.append.remote(record, hypotheses))
        return report(kept)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to save: finished work is in the ledger and the artefact store."""

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        """Nothing to load."""

    def cleanup(self) -> None:
        """Give the GPU's memory back before the process ends."""
        release_memory()


def report(record: dict[str, Any]) -> dict[str, Any]:
    """What Tune is told: plain numbers, present whether the trial was measured or failed."""
    outcome = outcome_from_json(record["outcome"])
    told: dict[str, Any] = {"done": True, "number": record["number"], "split": record["split"], "failed": 1}
    if isinstance(outcome, Measurement):
        told |= {"failed": 0, "quality": outcome.overall(next(iter(outcome.scores))), "bytes": outcome.footprint.bytes}
    return told


def release_memory() -> bool:
    """Free what the last trial held; False when a GPU still holds more than a CUDA context's worth of tensors."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return True
    torch.cuda.empty_cache()
    return bool(torch.cuda.memory_allocated() < LEFT_BEHIND_BYTES)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _place() -> str:
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return f"{socket.gethostname()}:{os.getpid()}" + (f":gpu{gpus}" if gpus else "")
