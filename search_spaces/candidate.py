"""A candidate: a base model and the ordered compression steps applied to it; `()` is the uncompressed baseline."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, TypedDict

from search_spaces.errors import CandidateError
from search_spaces.methods.method import names_of
from search_spaces.methods.quantizers import QUANTIZERS
from search_spaces.methods.registry import Step, step_from_json, step_to_json
from search_spaces.methods.trainers import WITH_GRID, Finetune, Recover

# How the revision of a local folder begins: over all bytes of its files, or over samples of large ones.
WHOLE, SAMPLED = "sha256:", "sampled:"


def is_of_content(revision: str) -> bool:
    """Whether the revision is of a local folder's content, and no hub's commit."""
    return revision.startswith((WHOLE, SAMPLED))


@dataclass(frozen=True, slots=True)
class BaseModel:
    """Which model: its files' place, and what fixes their bytes."""

    name: str
    """A hub id or a local folder."""
    revision: str
    """A hub commit, or `sha256:…` or `sampled:…` over the needed files of a local folder."""

    def identity(self) -> str:
        """What the digest sees: a content hash alone names a local folder, wherever it lies."""
        return self.revision if is_of_content(self.revision) else f"{self.name}@{self.revision}"


class CandidateJson(TypedDict):
    """A candidate as a JSON object."""

    model: str
    """The base model's hub id or folder."""
    revision: str
    """What fixes the base model's bytes."""
    steps: list[dict[str, Any]]
    """Each step's `method` beside its parameters."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A base model and ordered steps; refuses an order that makes no sense when it is built.

    Steps that all train may follow one another here: they are the control of a chain that trains more than once.
    """

    base: BaseModel
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        refuse_senseless_order(self.steps, control=all(step.kind == "trainer" for step in self.steps))

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
        return " + ".join(step.describe() for step in self.steps)

    def prefix(self, length: int) -> Candidate:
        """The candidate made of the first `length` steps: the parent whose artefact later steps start from."""
        return Candidate(self.base, self.steps[:length])

    def to_json(self) -> CandidateJson:
        """The candidate as a JSON object that `candidate_from_json` reads back."""
        return {
            "model": self.base.name,
            "revision": self.base.revision,
            "steps": [step_to_json(step) for step in self.steps],
        }


def candidate_from_json(record: CandidateJson) -> Candidate:
    """The candidate that `Candidate.to_json` wrote."""
    base = BaseModel(record["model"], record["revision"])
    return Candidate(base, tuple(step_from_json(step) for step in record["steps"]))


def digest_of(value: object) -> str:
    """Sixteen hex digits of the SHA-256 of a value's canonical JSON; raises TypeError on what JSON can't name."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# Parameters that methods were given later, as they were until then: with these a digest is what it was.
LATER: dict[str, Any] = {"beams": 0, "zero_points": False, "by": "rtn"}


def refuse_senseless_order(steps: tuple[Step, ...], control: bool = False) -> None:
    """Raise CandidateError, with the reason, for steps that can't follow one another. control: whether two trainings
    may do so."""
    for position, step in enumerate(steps):
        for earlier in steps[:position]:
            if (reason := _senseless(earlier, step)) is not None:
                raise CandidateError(reason)
        if not control and position and step.kind == steps[position - 1].kind == "trainer":
            then = f"{steps[position - 1].describe()} and then {step.describe()}"
            raise CandidateError(f"{then}: two trainings in a row are one. Give one of them the tokens of both.")
        if isinstance(step, Recover) and step.adapter == "scales" and not any(one.has_grid for one in steps[:position]):
            raise CandidateError(
                f"{step.describe()}: no weight has scales yet. Put one of {names_of(WITH_GRID)} before it, or use "
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
            f"{first.describe()}: the model is its own teacher as long as nothing has changed it, so there is "
            "nothing to learn. Use loss: references or sequence, or a reference_share above 0, or compress first."
        )


def _senseless(earlier: Step, later: Step) -> str | None:
    """Why `later` can't come after `earlier`; None when it can."""
    first, second = earlier.describe(), later.describe()
    then, after = f"{first} and then {second}", f"{second} after {first}"
    if earlier.kind == later.kind and earlier.kind in ("quantizer", "embedding quantizer"):
        return f"{then}: a weight can be quantized once. Drop one."
    if earlier.kind == "sparsifier" and later.kind == "sparsifier":
        return f"{then}: a weight can be made sparse once. Drop one."
    if (reason := earlier.why_not_before(later)) is not None:
        return reason
    if earlier.kind == "embedding quantizer":
        return f"{after}: the embeddings are quantized last, so that one candidate has one spelling. Put them last."
    if earlier.kind == "quantizer" and later.kind == "pruner":
        return f"{after}: packed weights can't be pruned. Put the pruning first."
    if earlier.kind == "quantizer" and later.kind == "sparsifier":
        return f"{after}: a quantized weight can't be made sparse. Put the sparsity first."
    if earlier.kind == "sparsifier" and later.kind == "pruner":
        return f"{after}: the zeros were chosen for the model before the pruning. Put the pruning first."
    if earlier.kind == "sparsifier" and later.kind == "quantizer" and not later.keeps_zeros:
        keep_zeros = tuple(method for method in QUANTIZERS if method.keeps_zeros)
        return f"{after}: it would not keep the zeros. Use one of {names_of(keep_zeros)}."
    return later.why_not_after(earlier)


def _named(step: Step) -> dict[str, Any]:
    named = {name: value for name, value in step_to_json(step).items() if LATER.get(name, ...) != value}
    return {"class": step.digest_name, **named}
