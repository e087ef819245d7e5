"""The compression methods a candidate can name, by name, and steps to and from JSON.

A method is a frozen dataclass of `quantizers`, `pruners` or `trainers`; it is carried out by a module of
`workers/compression/`. Its `digest_name` is what digests know it by, and never changes, whatever the class is called:
ledgers and stores of old find their results by it.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from search_spaces.errors import CandidateError
from search_spaces.methods.pruners import (
    Magnitude,
    RemoveChannels,
    RemoveHeads,
    RemoveLayers,
    SparseGPT,
    TrimVocabulary,
    Wanda,
)
from search_spaces.methods.quantizers import (
    AWQ,
    FP8,
    GPTQ,
    HQQ,
    RTN,
    W8A8,
    BitsAndBytes,
    MixedWidths,
    QuantizeEmbeddings,
)
from search_spaces.methods.recipes import recipe
from search_spaces.methods.trainers import Distill, Finetune, Recover

Pruner = RemoveLayers | RemoveHeads | RemoveChannels | TrimVocabulary
Sparsifier = Magnitude | Wanda | SparseGPT
IntegerQuantizer = RTN | HQQ | AWQ | GPTQ
Quantizer = IntegerQuantizer | MixedWidths | BitsAndBytes | FP8 | W8A8
Trainer = Recover | Finetune | Distill
Step = Pruner | Sparsifier | Quantizer | QuantizeEmbeddings | Trainer

METHODS: dict[str, type[Step]] = {
    RTN.name: RTN,
    HQQ.name: HQQ,
    AWQ.name: AWQ,
    GPTQ.name: GPTQ,
    MixedWidths.name: MixedWidths,
    BitsAndBytes.name: BitsAndBytes,
    FP8.name: FP8,
    W8A8.name: W8A8,
    QuantizeEmbeddings.name: QuantizeEmbeddings,
    RemoveLayers.name: RemoveLayers,
    RemoveHeads.name: RemoveHeads,
    RemoveChannels.name: RemoveChannels,
    TrimVocabulary.name: TrimVocabulary,
    Magnitude.name: Magnitude,
    Wanda.name: Wanda,
    SparseGPT.name: SparseGPT,
    Recover.name: Recover,
    Finetune.name: Finetune,
    Distill.name: Distill,
}


def step_to_json(step: Step) -> dict[str, Any]:
    """The step as a JSON object: its method's name beside its parameters."""
    return {"method": step.name, **{field.name: getattr(step, field.name) for field in fields(step)}}


def step_from_json(record: object) -> Step:
    """The step that `step_to_json` wrote, or that a study file spells, by its method or by a recipe; raises
    CandidateError for anything else."""
    if not isinstance(record, dict) or not {"method", "recipe"} & set(record):
        raise CandidateError(
            "a step is an object with a key `method`, such as {method: rtn, bits: 4}, or a key `recipe`; got "
            f"{record!r}"
        )
    record = recipe(record)
    name = record["method"]
    if not isinstance(name, str) or name not in METHODS:
        raise CandidateError(f"no method is called {name!r}; there are {', '.join(METHODS)}")
    method = METHODS[name]
    parameters = {key: value for key, value in record.items() if key != "method"}
    known = {field.name for field in fields(method)}
    if unknown := sorted(set(parameters) - known, key=str):
        raise CandidateError(f"{name} has no parameter {unknown[0]!r}; it has {', '.join(sorted(known))}")
    try:
        return method(**parameters)
    except TypeError as error:
        raise CandidateError(f"{name} with {parameters}: {error}") from error


def describe_step(step: Step) -> str:
    """A step as people read it: `rtn(bits=4, group_size=64)`; of a trainer's many parameters the budget, the loss and
    those that are not at their defaults."""
    told = [
        field.name
        for field in fields(step)
        if step.kind != "trainer" or field.name in ("tokens", "loss") or getattr(step, field.name) != field.default
    ]
    parameters = ", ".join(f"{name}={getattr(step, name)}" for name in told)
    return f"{step.name}({parameters})"
