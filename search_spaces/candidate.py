"""A candidate: a base model and the ordered compression steps applied to it; `()` is the uncompressed baseline."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from search_spaces.errors import CandidateError
from search_spaces.methods.pruners import TrimVocabulary
from search_spaces.methods.quantizers import (
    AWQ,
    GPTQ,
    HQQ,
    RTN,
    BitsAndBytes,
    MixedWidths,
)
from search_spaces.methods.registry import Step, describe_step, step_from_json, step_to_json
from search_spaces.methods.trainers import Distill, Finetune, Recover


@dataclass(frozen=True, slots=True)
class BaseModel:
    """Which model: a hub id or local folder, and the revision that fixes its bytes.

    revision is a hub commit, or `sha256:…` over the needed files of a local folder.
    """

    name: str
    revision: str

    def identity(self) -> str:
        """What the digest sees: a content hash alone names a local folder, wherever it lies."""
        return self.revision if self.revision.startswith("sha256:") else f"{self.name}@{self.revision}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A base model and ordered steps; refuses an order that makes no sense when it is built."""

    base: BaseModel
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        refuse_senseless_order(self.steps)

    @property
    def digest(self) -> str:
        """Sixteen hex digits over canonical JSON; what does not change the result is not in it."""
        return digest_of({"base": self.base.identity(), "steps": [_named(step) for step in self.steps]})

    @property
    def kind(self) -> str:
        """The set of methods in use, such as `remove_layers + rtn`; `baseline` when there is none."""
        return " + ".join(sorted({step.name for step in self.steps})) or "baseline"

    def describe(self) -> str:
        """`method(key=value, …) + method(…)`; empty for the baseline."""
        return " + ".join(describe_step(step) for step in self.steps)

    def prefix(self, length: int) -> Candidate:
        """The candidate made of the first `length` steps: the parent whose artefact later steps start from."""
        return Candidate(self.base, self.steps[:length])

    def to_json(self) -> dict[str, Any]:
        """The candidate as a JSON object that `candidate_from_json` reads back."""
        return {
            "model": self.base.name,
            "revision": self.base.revision,
            "steps": [step_to_json(step) for step in self.steps],
        }


def candidate_from_json(record: dict[str, Any]) -> Candidate:
    """The candidate that `Candidate.to_json` wrote."""
    base = BaseModel(record["model"], record["revision"])
    return Candidate(base, tuple(step_from_json(step) for step in record["steps"]))


def digest_of(value: object) -> str:
    """Sixteen hex digits of the SHA-256 of a value's canonical JSON; raises TypeError on what JSON can't name."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# Parameters that methods were given later, as they were until then: with these a digest is what it was.
LATER: dict[str, Any] = {"beams": 0}
# The quantizers that keep a sparse weight's zeros and store it as its mask and what stays.
KEEPS_ZEROS = (RTN, HQQ, GPTQ)
# The quantizers whose grids of integers can be trained.
HAS_GRID = (RTN, HQQ, AWQ, GPTQ, MixedWidths)


def refuse_senseless_order(steps: tuple[Step, ...]) -> None:
    """Raise CandidateError, with the reason, for steps that can't follow one another."""
    for position, step in enumerate(steps):
        for earlier in steps[:position]:
            if (reason := _senseless(earlier, step)) is not None:
                raise CandidateError(reason)
        if position and step.kind == steps[position - 1].kind == "trainer":
            then = f"{describe_step(steps[position - 1])} and then {describe_step(step)}"
            raise CandidateError(f"{then}: two trainings in a row are one. Give one of them the tokens of both.")
        if _trains_scales(step) and not any(isinstance(earlier, HAS_GRID) for earlier in steps[:position]):
            raise CandidateError(
                f"{describe_step(step)}: no weight has scales yet. Put one of {_names(HAS_GRID)} before it, or use "
                "adapter: lora."
            )


def refuse_idle_training(steps: tuple[Step, ...]) -> None:
    """Raise CandidateError for steps that begin by training the base model towards what the base model says.

    Student and teacher are then one: every divergence is at its minimum, and so is the distance of hidden states. Asked
    of candidates that are to be tried; a stored one that began so is read all the same.
    """
    first = steps[0] if steps else None
    if isinstance(first, Recover | Finetune) and first.has_divergence and not first.reference_share:
        raise CandidateError(
            f"{describe_step(first)}: the model is its own teacher as long as nothing has changed it, so there is "
            "nothing to learn. Use loss: references or sequence, or a reference_share above 0, or compress first."
        )


def _senseless(earlier: Step, later: Step) -> str | None:
    """Why `later` can't come after `earlier`; None when it can."""
    first, second = describe_step(earlier), describe_step(later)
    then, after = f"{first} and then {second}", f"{second} after {first}"
    if earlier.kind == later.kind and earlier.kind in ("quantizer", "embedding quantizer"):
        return f"{then}: a weight can be quantized once. Drop one."
    if earlier.kind == "sparsifier" and later.kind == "sparsifier":
        return f"{then}: a weight can be made sparse once. Drop one."
    if isinstance(earlier, TrimVocabulary) and isinstance(later, TrimVocabulary):
        return f"{then}: the second alone does the same. Drop one."
    if later.kind == "embedding quantizer" and isinstance(earlier, MixedWidths) and earlier.embeddings:
        return f"{then}: the first gives the embeddings their width already. Drop one."
    if isinstance(earlier, Recover) and earlier.is_apart:
        return f"{after}: an adapter kept apart comes last. Merge it first (merged: true); packed, train the scales."
    if earlier.kind == "embedding quantizer":
        return f"{after}: the embeddings are quantized last, so that one candidate has one spelling. Put them last."
    if earlier.kind == "quantizer" and later.kind == "pruner":
        return f"{after}: packed weights can't be pruned. Put the pruning first."
    if earlier.kind == "quantizer" and later.kind == "sparsifier":
        return f"{after}: a quantized weight can't be made sparse. Put the sparsity first."
    if earlier.kind == "sparsifier" and later.kind == "pruner":
        return f"{after}: the zeros were chosen for the model before the pruning. Put the pruning first."
    if later.kind == "trainer":
        return _untrainable(earlier, later, after)
    if earlier.kind == "sparsifier" and later.kind == "quantizer" and not isinstance(later, KEEPS_ZEROS):
        return f"{after}: it would not keep the zeros. Use one of {_names(KEEPS_ZEROS)}."
    return None


def _untrainable(earlier: Step, trainer: Step, after: str) -> str | None:
    """Why the trainer can't come after `earlier`; None when it can."""
    is_apart = isinstance(trainer, Recover) and trainer.is_apart
    if isinstance(earlier, MixedWidths) and earlier.embeddings:
        return (
            f"{after}: the embeddings are quantized last, so that what is trained reads them whole. "
            "Use embeddings: false there, and the method embeddings after the training."
        )
    if isinstance(earlier, TrimVocabulary) and _asks_by_token(trainer):
        return (
            f"{after}: the teacher has tokens that the trimmed vocabulary lacks. "
            "Use loss: sequence or references, or trim after the training."
        )
    if earlier.kind == "sparsifier" and not (is_apart or isinstance(trainer, Finetune)):
        return (
            f"{after}: it would not keep the zeros. Use finetune, or recover with adapter: lora or dora kept apart, "
            "or put the training first."
        )
    if earlier.kind != "quantizer":
        return None
    if isinstance(trainer, Distill):
        return f"{after}: a student can't be cut out of packed weights. Put the distillation first."
    if isinstance(trainer, Recover) and trainer.merged:
        return f"{after}: a packed weight can't take an adapter in. Keep it apart (merged: false), or train the scales."
    if isinstance(earlier, HAS_GRID) or (isinstance(earlier, BitsAndBytes) and is_apart):
        return None
    if isinstance(earlier, BitsAndBytes):
        return (
            f"{after}: its blocks have no grid to train. Keep a lora or dora adapter apart, or put the training first."
        )
    return f"{after}: its weights can't be trained. Put the training first, or use one of {_names(HAS_GRID)}."


def _trains_scales(step: Step) -> bool:
    return isinstance(step, Recover) and step.adapter == "scales"


def _asks_by_token(step: Step) -> bool:
    """Whether the trainer compares itself with the teacher token by token."""
    return isinstance(step, Recover | Finetune | Distill) and step.has_divergence


def _names(methods: tuple[type[Step], ...]) -> str:
    return ", ".join(method.name for method in methods)


def _named(step: Step) -> dict[str, Any]:
    named = {name: value for name, value in step_to_json(step).items() if LATER.get(name, ...) != value}
    return {"class": step.digest_name, **named}
