"""COMET scores for the rest of the project: plain texts in, segment scores times 100 out, by way of the COMET actor."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import ray

from search_spaces.errors import StudyError
from workers.comet.actor import start_comet
from workers.comet.environment import comet_version
from workers.comet.files import checkpoint_digest, comet_files

ATTEMPTS = 3
PAIRS_PER_CALL = 512


def comet_scores(
    model: str,
    sources: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    store: Path,
    gpus: float | None = None,
) -> list[float]:
    """One score a segment, times 100, from the actor of `model` and the cache in `store`; Ray must be initialized.

    references: each segment's references, of which the first is used, as COMET was trained and WMT scores it; a
    reference-free model ignores them. gpus: as in `start_comet`, for the case that the actor isn't running yet.
    COMET (Rei et al. 2022, https://aclanthology.org/2022.wmt-1.52) gives an empty or wrong-language hypothesis an
    ordinary score (https://aclanthology.org/2024.wmt-1.121): that is left as it is, for the sanity checks to catch.
    Raises StudyError when the model's files can't be had or a segment has no reference; UserError when COMET's
    environment can't be made; RayActorError when the actor was lost three times.
    """
    needed = comet_files(model).needs_reference
    if needed and not all(references):
        raise StudyError(
            f"{model} compares with a reference and a segment has none; measure cometkiwi, which needs none"
        )
    first = [texts[0] if needed else "" for texts in references]
    rows = list(zip(sources, hypotheses, first, strict=True))
    for attempt in range(1, ATTEMPTS + 1):
        try:
            actor = start_comet(model, store, gpus)
            parts = [rows[at : at + PAIRS_PER_CALL] for at in range(0, len(rows), PAIRS_PER_CALL)]
            return [100 * score for part in parts for score in ray.get(actor.scores.remote(part))]
        except ray.exceptions.RayActorError:
            # Its owner may have ended, or it was killed; what it scored is in the cache, and the next one goes on.
            if attempt == ATTEMPTS:
                raise
            time.sleep(attempt)
    raise AssertionError("unreachable")


def comet_signature(model: str) -> str:
    """The conditions of a score, in sacreBLEU's form; COMET's own advice is to name release, model and precision."""
    files = comet_files(model)
    references = "first" if files.needs_reference else "none"
    digest = checkpoint_digest(files.checkpoint)
    return f"comet:{comet_version()}|model:{files.name}|sha256:{digest}|prec:fp32|refs:{references}"
