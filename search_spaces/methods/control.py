"""The control of a chain that trains: the same training on the uncompressed model, so that what the compression costs
is told apart from what the training brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from search_spaces.methods.registry import Step
from search_spaces.methods.trainers import Distill, Finetune, LossName, Recover, Trainer


def trains(steps: Sequence[Step]) -> bool:
    """Whether a step of the chain trains."""
    return any(isinstance(step, Trainer) for step in steps)


def control_steps(steps: Sequence[Step]) -> tuple[Step, ...] | None:
    """The steps of the chain that train, in their order, as they are on a model that nothing has compressed.

    A training of packed weights becomes that of whole ones, a student the whole model. A first step that learns a
    divergence from the teacher alone learns the targets by cross-entropy instead: the uncompressed model is its own
    teacher. None where the chain trains nothing, compresses nothing, or trains scales, which only packed weights have.
    """
    found: list[Step] = []
    for step in steps:
        if isinstance(step, Recover) and step.adapter == "scales":
            return None
        if isinstance(step, Trainer):
            whole = _whole_model(step)
            found.append(whole if found else _with_something_to_learn(whole))
    return tuple(found) if found and tuple(found) != tuple(steps) else None


def _whole_model(step: Trainer) -> Trainer:
    if not isinstance(step, Distill):
        return step
    return Finetune(**{field.name: getattr(step, field.name) for field in fields(Trainer)})


def _with_something_to_learn(step: Trainer) -> Trainer:
    if not step.has_divergence or step.reference_share:
        return step
    targets: LossName = "sequence" if step.has_translated_targets else "references"
    return replace(step, loss=targets, teacher="live", hidden=0.0)
