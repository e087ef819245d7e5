"""A candidate that was made, loaded on its devices, and its divergence from the base model, if that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from search_spaces.candidate import Candidate
from workers.evaluation.candidate_folder import Built, base_context, begun_by
from workers.plan.evaluation_plan import EvaluationPlan
from workers.runtime.stages import Stages

if TYPE_CHECKING:
    from workers.evaluation.candidate_divergence import Reference


@dataclass(frozen=True, slots=True)
class Loaded:
    """A candidate's model and tokenizer. devices: where the model lies. divergence: in nats, by language pair; empty
    where there was nothing to compare with."""

    model: Any
    tokenizer: Any
    devices: tuple[Any, ...]
    divergence: Mapping[str, float]


def references_for(candidate: Candidate, made: Built, plan: EvaluationPlan, stages: Stages) -> Mapping[str, Reference]:
    """What the model says that the candidate begins with, by language pair; empty where no calibration pair is left to
    measure on. To be asked for before the candidate needs the memory."""
    from workers.evaluation.candidate_divergence import references_of

    with stages.stage("divergence"):
        begun = begun_by(candidate, made.base, made.prompt, plan)
        context = base_context(candidate.base, made.base, made.prompt, plan)
        return references_of(begun.folder, replace(context, parent_key=begun.key))


def load_candidate(
    candidate: Candidate, made: Built, references: Mapping[str, Reference], plan: EvaluationPlan, stages: Stages
) -> Loaded:
    """The candidate, loaded from its folder and compared with these references. Raises ValueError for logits that are
    not finite, and whatever a library raises; `stages` then says where."""
    from workers.loading.load import load_model, load_tokenizer, placement_for

    trusted = plan.trust_remote_code
    with stages.stage("load"):
        tokenizer = load_tokenizer(made.folder, trusted)
        placement = placement_for(made.folder, plan.device_map, trusted)
        model = load_model(made.folder, placement, trusted)
    divergence: Mapping[str, float] = {}
    if references:
        from workers.evaluation.candidate_divergence import divergence_from, respelling_for

        with stages.stage("divergence"):
            respelt = respelling_for(candidate.steps, made.base, tokenizer, trusted)
            divergence = divergence_from(references, model, respelt)
    return Loaded(model, tokenizer, placement.devices, divergence)
