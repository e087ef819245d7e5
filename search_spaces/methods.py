"""The compression methods a candidate can name: one frozen dataclass a method, its fields the method's parameters.

A method is carried out by the module of the same name in `workers/compression/`; this file knows nothing of how.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from search_spaces.errors import CandidateError

Kind = Literal["quantizer", "pruner"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundToNearest:
    """Symmetric round-to-nearest quantization of every linear weight of the decoder layers.

    bits: 8, 4 or 3. group_size: consecutive input weights that share one scale; -1 is one scale an output
    channel. Reference: Dettmers et al. 2022, https://arxiv.org/abs/2208.07339 §2 (absmax quantization).
    """

    name: ClassVar[str] = "rtn"
    kind: ClassVar[Kind] = "quantizer"

    bits: int
    group_size: int = 64

    def __post_init__(self) -> None:
        _one_of("rtn.bits", self.bits, (8, 4, 3))
        _one_of("rtn.group_size", self.group_size, (32, 64, 128, -1))


@dataclass(frozen=True, slots=True, kw_only=True)
class BitsAndBytes:
    """Quantization by the bitsandbytes library: LLM.int8() or 4-bit NormalFloat in blocks of 64.

    format: "int8" (https://arxiv.org/abs/2208.07339) or "nf4" (QLoRA, https://arxiv.org/abs/2305.14314 §3).
    """

    name: ClassVar[str] = "bitsandbytes"
    kind: ClassVar[Kind] = "quantizer"

    format: Literal["int8", "nf4"]

    def __post_init__(self) -> None:
        _one_of("bitsandbytes.format", self.format, ("int8", "nf4"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveLayers:
    """Removal of whole decoder layers, those that change the hidden state least on the calibration set.

    count: how many layers go. The influence of a layer is 1 - mean cosine(hidden state before, after):
    ShortGPT's Block Influence, https://arxiv.org/abs/2403.03853 §3.2.
    """

    name: ClassVar[str] = "remove_layers"
    kind: ClassVar[Kind] = "pruner"

    count: int

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 1:
            raise CandidateError(
                f"remove_layers.count is {self.count!r}; it must be a whole number of at least 1. "
                "Leave the step out to keep every layer."
            )


Step = RoundToNearest | BitsAndBytes | RemoveLayers

METHODS: dict[str, type[Step]] = {
    RoundToNearest.name: RoundToNearest,
    BitsAndBytes.name: BitsAndBytes,
    RemoveLayers.name: RemoveLayers,
}


def step_to_json(step: Step) -> dict[str, Any]:
    """The step as a JSON object: its method's name beside its parameters."""
    return {"method": step.name, **{field.name: getattr(step, field.name) for field in fields(step)}}


def step_from_json(record: object) -> Step:
    """The step that `step_to_json` wrote, or that a study file spells; raises CandidateError for anything else."""
    if not isinstance(record, dict) or "method" not in record:
        raise CandidateError(
            f"a step is an object with a key `method`, such as {{method: rtn, bits: 4}}; got {record!r}"
        )
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
    """A step as people read it: `rtn(bits=4, group_size=64)`."""
    parameters = ", ".join(f"{field.name}={getattr(step, field.name)}" for field in fields(step))
    return f"{step.name}({parameters})"


def _one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed or type(value) is not type(allowed[0]):
        raise CandidateError(f"{name} is {value!r}; it must be one of {', '.join(map(str, allowed))}")
