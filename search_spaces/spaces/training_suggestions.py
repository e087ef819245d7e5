"""How single choices become steps that train, and how a budget is raised. Names of choices are unique in a space.

What is offered depends on the model, and on whether the study names training data, never on earlier choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.methods.quantizers import MixedWidths
from search_spaces.methods.registry import Step, step_from_json
from search_spaces.methods.trainers import Distill, Finetune, Recover
from search_spaces.spaces.choices import Choices, ChoiceSource
from search_spaces.spaces.offers import Offer
from search_spaces.spaces.suggestions import NONE, embeddings, quantizer_alone

# Tokens read, each rung four times the one before.
BUDGETS = (250_000, 1_000_000, 4_000_000)
# The choices of budgets, in the order of the steps that they are of.
BUDGET_CHOICES = ("distill.budget", "heal.budget", "recovery.budget")
# The choices that say whether something is trained.
TRAINING_CHOICES = ("heal", "recovery", "bitsandbytes.recovery")
RANKS = (4, 16, 64)
BY_BEAMS, WITH_REFERENCES = "quantization-aware-beams", "quantization-aware-references"
RECOVERIES = ("scales", "lora", "quantization-aware", WITH_REFERENCES, BY_BEAMS)
# Of dense weights: a merged adapter, all weights, and all weights with cross-entropy on the references beside.
HEAL_WITH_REFERENCES = "finetune-references"
HEALINGS = ("recover", "finetune", HEAL_WITH_REFERENCES)
# How all weights are trained: sequences of an optimizer step, and the peak rate below FEW_BITS, where weights that move
# little stay in their cell of the grid; with more bits it is the recipe's. A step of 64 pairs takes a GPU as long as
# one of 128. Of half a billion parameters (H200) the divergence after 800,000 tokens was, at 2 bits, 7.8 nats with a
# rate of 5e-5 and 2.9 with 2e-4, and at 3 bits 0.48 and 0.54; with 1e-4 dense weights that lacked a layer went from
# 0.09 nats to 0.48. At 3 bits one chain kept 95, 99 and 101 % on dev after 4 million tokens with references at 2e-5,
# 5e-5 and 1e-4. A high rate forgets what the pairs don't show: of its worst held-out pair it kept 87 % with 5e-5 and
# 83 % with 1e-4, and the uncompressed model 97 % with 2e-5 and 90 % with 1e-4. So a longer training goes slower.
BATCH = 128
FEW_BITS, FEW_BITS_RATE = 4, 1e-4
LONG, LONG_RATE, LONG_FROM_BITS = BUDGETS[2], 5e-5, 3
# A choice that stands for those of one training of all weights, after everything but the embeddings' width.
TRAINED = "trained"


@dataclass(frozen=True, slots=True)
class WholeTraining:
    """A training of all weights towards the teacher's distribution: its budget in tokens, whether its targets are the
    teacher's translations by beams, and whether cross-entropy on the references is half of its loss."""

    tokens: int
    by_beams: bool = False
    with_references: bool = False

    @property
    def recipe(self) -> str:
        """How packed weights are trained so."""
        return BY_BEAMS if self.by_beams else WITH_REFERENCES if self.with_references else "quantization-aware"


# 250,000 tokens are 50 optimizer steps of an LLM's usual sequences: on one of half a billion parameters they changed
# nothing. A model at a ninth of its bytes kept 84 % of its quality after 1 million and 93 % after 4. The teacher's
# translations take longer than they are trained on, so they are for a large budget. References gained the same model,
# uncompressed and once trained on them, 2.3 % in 4 million tokens: what the teacher's distribution alone can't give.
TRAINED_WHOLE: dict[str, WholeTraining] = {
    "1M": WholeTraining(BUDGETS[1]),
    "1M with references": WholeTraining(BUDGETS[1], with_references=True),
    "4M": WholeTraining(BUDGETS[2]),
    "4M with references": WholeTraining(BUDGETS[2], with_references=True),
    "4M by beams": WholeTraining(BUDGETS[2], by_beams=True),
    "16M": WholeTraining(4 * BUDGETS[2]),
    "16M with references": WholeTraining(4 * BUDGETS[2], with_references=True),
}
SHORTEST, RISE = BUDGETS[1], 4


def raise_budget(choices: Choices) -> dict[str, Any] | None:
    """The same choices with the next budget for the last step that has one, so that what comes before it is shared;
    None where every budget is the highest, or there is none."""
    for name in reversed(BUDGET_CHOICES):
        if (budget := choices.get(name)) in BUDGETS[:-1]:
            return {**choices, name: BUDGETS[BUDGETS.index(budget) + 1]}
    return None


def is_sampled(choices: Choices) -> bool:
    """Whether a sampler may be told of these choices: it is offered no budget above BUDGETS, and a search may be."""
    return all(choices.get(name, 0) <= BUDGETS[-1] for name in BUDGET_CHOICES)


def spell_training(choices: Choices) -> dict[str, Any]:
    """The choices with that of `TRAINED` spelt out as the space asks for it: packed weights are trained through their
    rounding, others as they are. Those that are not made say that nothing else is trained."""
    found = {name: value for name, value in choices.items() if name != TRAINED}
    training = TRAINED_WHOLE.get(choices.get(TRAINED, NONE))
    if training is None:
        return found
    if choices["quantizer"] == NONE:
        how = HEAL_WITH_REFERENCES if training.with_references else "finetune"
        return {**found, "heal": how, "heal.budget": training.tokens}
    return {**found, "recovery": training.recipe, "recovery.budget": training.tokens}


def student(source: ChoiceSource, offer: Offer) -> tuple[Step, ...]:
    """A student of fewer layers, a smaller hidden size or fewer channels; no step where it keeps them all."""
    shape: dict[str, Any] = {}
    for name, whole, offered in (
        ("layers", 0, offer.student_layers),
        ("width", 1.0, offer.student_widths),
        ("channels", 1.0, offer.student_channels),
    ):
        if offered:
            kept = source.suggest_categorical(f"distill.{name}", (whole, *offered))
            shape |= {} if kept == whole else {name: kept}
    if not shape:
        return ()
    return (Distill(tokens=source.suggest_categorical("distill.budget", BUDGETS), **shape),)


def suggest_healing(source: ChoiceSource, offer: Offer, pruned: tuple[Step, ...]) -> tuple[Step, ...]:
    """The pruned model, then a training of a merged adapter or of all weights, or none."""
    if not (offer.training and pruned):
        return pruned
    how = source.suggest_categorical("heal", (NONE, *HEALINGS))
    if how == NONE:
        return pruned
    tokens = source.suggest_categorical("heal.budget", BUDGETS)
    if how == "recover":
        return (*pruned, Recover(tokens=tokens, merged=True))
    if how == HEAL_WITH_REFERENCES:
        return (*pruned, step_from_json({"recipe": WITH_REFERENCES, "tokens": tokens, "batch": BATCH}))
    return (*pruned, Finetune(tokens=tokens, batch=BATCH))


def quantized_and_recovered(
    source: ChoiceSource, offer: Offer, names: Sequence[str], bits: Sequence[int], before: tuple[Step, ...]
) -> tuple[Step, ...]:
    """`before`, a quantizer of these names, if any, a training of what it made, and a width for the embeddings."""
    quantizer = quantizer_alone(source, offer, names, bits)
    if any(isinstance(step, MixedWidths) and step.embeddings for step in quantizer):
        return before + quantizer
    training = _recovery(source, quantizer[0]) if offer.training and quantizer else ()
    steps = before + quantizer + training
    if any(isinstance(step, Recover) and step.is_apart for step in training):
        return steps
    return steps + embeddings(source, offer)


def _recovery(source: ChoiceSource, quantizer: Step) -> tuple[Step, ...]:
    """Scales, an adapter kept apart or all weights, by recipe; none where the quantizer's weights can't be trained."""
    if quantizer.has_grid:
        how = source.suggest_categorical("recovery", (NONE, *RECOVERIES))
    elif quantizer.takes_adapters:
        how = source.suggest_categorical("bitsandbytes.recovery", (NONE, "lora"))
    else:
        return ()
    if how == NONE:
        return ()
    asked: dict[str, Any] = {"tokens": source.suggest_categorical("recovery.budget", BUDGETS)}
    if how == "lora":
        rank = source.suggest_categorical("recovery.rank", RANKS)
        return (step_from_json({"recipe": "low-bit-lora", "rank": rank, "alpha": 2.0 * rank, **asked}),)
    if how == "scales":
        return (step_from_json({"recipe": "heal", **asked}),)
    if (bits := getattr(quantizer, "bits", FEW_BITS)) < FEW_BITS:
        asked["rate"] = LONG_RATE if asked["tokens"] > LONG and bits >= LONG_FROM_BITS else FEW_BITS_RATE
    return (step_from_json({"recipe": how, "batch": BATCH, **asked}),)
