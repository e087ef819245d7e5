"""What one option does to the model by itself: its divergence from the base model, and nothing translated."""

from __future__ import annotations

from search_spaces.candidate import Candidate
from search_spaces.errors import StudyError
from search_spaces.outcome import Probe
from workers.evaluation.candidate_folder import build_candidate, footprint
from workers.evaluation.loaded import load_candidate, references_for
from workers.plan.evaluation_plan import EvaluationPlan
from workers.runtime.callbacks import ProgressCallback, ignore_progress
from workers.runtime.gpu_memory import release_memory
from workers.runtime.stages import Stages


def probe(
    candidate: Candidate, plan: EvaluationPlan, stages: Stages, report: ProgressCallback = ignore_progress
) -> Probe:
    """Measure one candidate's divergence in nats, by language pair, and its bytes on disk.

    What it compresses stays in the plan's store, and so does what the base model says. stages: counts the seconds of
    `compress`, `divergence` (the base model's part among it) and `load`. report: is told of the progress of steps that
    train. Raises StudyError where no calibration pair is left to measure on, ValueError for logits that are not finite,
    and whatever else a method or a library raises; `stages` then says where.
    """
    with stages.stage("compress"):
        made = build_candidate(candidate, plan, report)
    references = references_for(candidate, made, plan, stages)
    if not references:
        raise StudyError("no calibration pair is left to measure divergence on; name more with --calibration")
    found = load_candidate(candidate, made, references, plan, stages).divergence
    release_memory()
    return Probe(
        divergence=found,
        bytes=footprint(candidate, made.base, made.artefact).bytes,
        seconds=dict(stages.seconds),
        notes=tuple(made.artefact.about["notes"]) if made.artefact else (),
    )
