"""The types of a study's keys, each with its rule, and how the ones that a file spells freely are read."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import Field, PlainValidator, ValidationInfo

from orchestrator.number_format import read_bytes
from orchestrator.results.limits import Third
from orchestrator.study.keys import ValueRule, refuse
from search_spaces.candidate import refuse_senseless_order
from search_spaces.errors import StudyError
from search_spaces.methods.reference_points import COMMON, REFERENCE_POINTS
from search_spaces.methods.registry import Step, step_from_json

RUNGS_RULE = "a list of ascending whole numbers of at least 1, or [] for no racing"
SIZE_RULE = "a size such as 20GB, or a whole number of bytes"
FILES_RULE = "a file, or a list of files"
PAIRS_RULE = "a pair such as en-cs, several with commas, or a list of pairs"
LANGUAGES_RULE = "codes with their names, such as {xx: Name} or --language xx=Name"
TRAINING_RULE = "a file, or a list of files, each a name or such as {file: pairs.jsonl, weight: 2}"
ANCHORS_RULE = "a list of candidates, each a list of steps"
STEPS_RULE = "a list of steps"
REFERENCES_RULE = f"{COMMON}, or a list of names ({', '.join(REFERENCE_POINTS)}) and of lists of steps"
TARGET_RULE = "such as chrf>=99% (of the baseline's mean over language pairs) or worst_pair>=98%"
OBJECTIVES_RULE = "quality,bytes, or these two with speed or memory for a third"
WORST = "worst_pair"
QUALITY_AND_BYTES = "quality,bytes"
# The objectives as they are spelt -> the third among them.
OBJECTIVES: Mapping[str, Third | None] = {
    QUALITY_AND_BYTES: None,
    **{f"{QUALITY_AND_BYTES},{third}": third for third in get_args(Third)},
}
_TARGET = re.compile(r"\s*([a-z_]+)\s*>=\s*(\d+(?:\.\d+)?)\s*%\s*")

NonEmpty = Annotated[str, Field(min_length=1)]
Names = Annotated[list[NonEmpty], Field(min_length=1)]
Text = Annotated[str, ValueRule("text")]
Switch = Annotated[bool, ValueRule("true or false")]
Positive = Annotated[int, Field(ge=1), ValueRule("a whole number of at least 1")]
Count = Annotated[int, Field(ge=0), ValueRule("a whole number of at least 0")]
Amount = Annotated[float, Field(ge=0), ValueRule("a number of at least 0")]
Above0 = Annotated[float, Field(gt=0), ValueRule("a number above 0")]


@dataclass(frozen=True, slots=True)
class TrainingSource:
    """A file of pairs to train on."""

    file: str
    """In any format that data has."""
    weight: float = 1.0
    """How much of the training its pairs are, beside the other files'."""

    def __post_init__(self) -> None:
        if not isinstance(self.file, str) or not self.file:
            raise refuse("training.file", self.file, "a file's name")
        number = isinstance(self.weight, (int, float)) and not isinstance(self.weight, bool)
        if not number or not 0 < self.weight < math.inf:
            raise refuse(f"training: the weight of {self.file}", self.weight, "a number above 0")


@dataclass(frozen=True, slots=True)
class Target:
    """The share of the baseline's quality that is to be kept.

    of: the quality metric, whose mean over language pairs counts, or "worst_pair", the pair that keeps least. share:
    above 0 and at most 1.
    """

    of: str
    share: float

    @property
    def of_worst(self) -> bool:
        return self.of == WORST

    def __str__(self) -> str:
        return f"{self.of}>={self.share * 100:g}%"


def target_of(text: str, quality: str) -> Target:
    """The target that the text spells; raises StudyError for anything else, and for a metric that is not the study's
    quality."""
    parts = _TARGET.fullmatch(text)
    share = float(parts[2]) / 100 if parts else 0.0
    if parts is None or not 0 < share <= 1:
        raise StudyError(f"target is {text!r}; it must be {TARGET_RULE}")
    if parts[1] not in (quality, WORST):
        raise StudyError(f"target is {text!r}, and the study's quality is {quality}: name {quality} or {WORST}")
    return Target(parts[1], share)


def _rungs(found: object) -> tuple[int, ...]:
    whole = isinstance(found, (list, tuple)) and all(type(size) is int and size >= 1 for size in found)
    if not isinstance(found, (list, tuple)) or not whole or list(found) != sorted(set(found)):
        raise refuse("rungs", found, RUNGS_RULE)
    return tuple(found)


def _steps(found: object, info: ValidationInfo) -> tuple[Step, ...]:
    listed = found or []
    if not isinstance(listed, (list, tuple)) or any(isinstance(step, (list, tuple)) for step in listed):
        raise refuse(str(info.field_name), found, STEPS_RULE)
    read = _read_steps(listed)
    refuse_senseless_order(read)
    return read


def _read_steps(listed: Iterable[Any]) -> tuple[Step, ...]:
    return tuple(step if isinstance(step, Step) else step_from_json(step) for step in listed)


def _anchors(found: object) -> tuple[tuple[Step, ...], ...]:
    listed = found or []
    if not isinstance(listed, (list, tuple)) or not all(isinstance(steps, (list, tuple)) for steps in listed):
        raise refuse("anchors", found, ANCHORS_RULE)
    read = tuple(_read_steps(steps) for steps in listed)
    for steps in read:
        refuse_senseless_order(steps)
    return read


def _reference_points(found: object) -> tuple[tuple[Step, ...], ...]:
    """Each candidate once, in the order in which they are named."""
    listed = [found] if isinstance(found, str) else found or []
    if not isinstance(listed, (list, tuple)):
        raise refuse("reference_points", found, REFERENCES_RULE)
    chains: dict[tuple[Step, ...], None] = {}
    for one in listed:
        if isinstance(one, str) and one in (COMMON, *REFERENCE_POINTS):
            named = REFERENCE_POINTS.values() if one == COMMON else [REFERENCE_POINTS[one]]
            chains |= dict.fromkeys(named)
        elif isinstance(one, (list, tuple)) and one:
            steps = _read_steps(one)
            refuse_senseless_order(steps)
            chains[steps] = None
        else:
            raise refuse("reference_points", one, REFERENCES_RULE)
    return tuple(chains)


def _one_or_several(found: object) -> str | tuple[str, ...]:
    """A name as it is, and several as a tuple; raises ValueError, whose words a key's rule replaces."""
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, (list, tuple)) or not listed or not all(isinstance(one, str) and one for one in listed):
        raise ValueError("neither a name nor a list of names")
    return listed[0] if len(listed) == 1 else tuple(listed)


def _pairs(found: object) -> str | tuple[str, ...]:
    spelt = found.split(",") if isinstance(found, str) else found
    return _one_or_several([one.strip() if isinstance(one, str) else one for one in _listed(spelt)])


def _objectives(found: object) -> str:
    """The objectives as OBJECTIVES spells them, whatever their order."""
    named = found.split(",") if isinstance(found, str) else _listed(found)
    names = sorted(one.strip() if isinstance(one, str) else "" for one in named)
    spelt = next((text for text in OBJECTIVES if sorted(text.split(",")) == names), None)
    if spelt is None:
        raise ValueError("no objectives of a study")
    return spelt


def _listed(found: object) -> list[object]:
    if not isinstance(found, (list, tuple)):
        raise ValueError("neither a pair nor a list of pairs")
    return list(found)


def all_of(one_or_several: str | Sequence[str] | None) -> tuple[str, ...]:
    """The names that a key of one or several has."""
    return (one_or_several,) if isinstance(one_or_several, str) else tuple(one_or_several or ())


def _training_sources(found: object) -> tuple[TrainingSource, ...]:
    """Files by their names, or each with its weight."""
    listed = [found] if isinstance(found, (str, Mapping)) and found else found or []
    if not isinstance(listed, (list, tuple)):
        raise refuse("training", found, TRAINING_RULE)
    sources: list[TrainingSource] = []
    for item in listed:
        if isinstance(item, TrainingSource):
            sources.append(item)
            continue
        named = {"file": item} if isinstance(item, str) else item
        if not isinstance(named, Mapping) or "file" not in named or not set(named) <= {"file", "weight"}:
            raise refuse("training", item, TRAINING_RULE)
        sources.append(TrainingSource(**named))
    return tuple(sources)


def _size(found: object, info: ValidationInfo) -> int | None:
    if found is None:
        return None
    spelt = isinstance(found, (str, int)) and not isinstance(found, bool)
    size = read_bytes(str(found)) if spelt else None
    if size is None:
        raise refuse(str(info.field_name), found, SIZE_RULE)
    return size


def language_names(found: object) -> dict[str, str]:
    """code -> name, from a mapping, or from `CODE=NAME` as the flag has it; raises StudyError for anything else."""
    named = found or {}
    if isinstance(named, (list, tuple)):
        parts = [str(item).partition("=") for item in named]
        if not all(equals for _, equals, _ in parts):
            raise refuse("languages", found, LANGUAGES_RULE)
        named = {code.strip(): name.strip() for code, _, name in parts}
    if not isinstance(named, Mapping):
        raise refuse("languages", found, LANGUAGES_RULE)
    # YAML takes no, Norwegian's code, for false.
    names = {"no" if code is False else code: name for code, name in named.items()}
    if not all(isinstance(text, str) for item in names.items() for text in item):
        raise refuse("languages", found, LANGUAGES_RULE)
    return names


def rungs_of_text(text: str) -> list[int]:
    """`64,256,1024`; nothing or `none` is no racing."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    try:
        return [] if names == ["none"] else [int(part) for part in names]
    except ValueError as error:
        rule = "it must be numbers of segments with commas, such as 64,256,1024, or none"
        raise argparse.ArgumentTypeError(f"rungs is {text!r}; {rule}") from error


Rungs = Annotated[
    tuple[int, ...],
    PlainValidator(_rungs, json_schema_input_type=list[Annotated[int, Field(ge=1)]]),
    ValueRule(RUNGS_RULE),
]
Size = Annotated[
    int | None,
    PlainValidator(_size, json_schema_input_type=Annotated[int, Field(ge=1)] | str | None),
    ValueRule(SIZE_RULE),
]
Files = Annotated[
    str | Sequence[str],
    PlainValidator(_one_or_several, json_schema_input_type=NonEmpty | Names),
    ValueRule(FILES_RULE),
]
Pairs = Annotated[
    str | Sequence[str],
    PlainValidator(_pairs, json_schema_input_type=NonEmpty | Names),
    ValueRule(PAIRS_RULE),
]
ObjectiveNames = Annotated[
    str, PlainValidator(_objectives, json_schema_input_type=NonEmpty | Names), ValueRule(OBJECTIVES_RULE)
]
Anchors = Annotated[
    tuple[tuple[Step, ...], ...],
    PlainValidator(_anchors, json_schema_input_type=list[list[dict[str, Any]]]),
    ValueRule(ANCHORS_RULE),
]
ReferencePoints = Annotated[
    tuple[tuple[Step, ...], ...],
    PlainValidator(_reference_points, json_schema_input_type=str | list[str | list[dict[str, Any]]]),
    ValueRule(REFERENCES_RULE),
]
Steps = Annotated[
    tuple[Step, ...],
    PlainValidator(_steps, json_schema_input_type=list[dict[str, Any]]),
    ValueRule(STEPS_RULE),
]
Training = Annotated[
    tuple[TrainingSource, ...],
    PlainValidator(_training_sources, json_schema_input_type=str | TrainingSource | list[str | TrainingSource]),
    ValueRule(TRAINING_RULE),
]
Languages = Annotated[
    Mapping[str, str],
    PlainValidator(language_names, json_schema_input_type=dict[str, str]),
    ValueRule(LANGUAGES_RULE),
]
