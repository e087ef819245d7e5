"""The compression methods a candidate can name, by name, and steps to and from JSON.

A method is a frozen dataclass of `quantizers`, `pruners` or `trainers`, on which all stands that is known of it.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from search_spaces.errors import CandidateError
from search_spaces.methods.method import Method
from search_spaces.methods.pruners import PRUNERS
from search_spaces.methods.quantizers import QUANTIZERS
from search_spaces.methods.recipes import recipe
from search_spaces.methods.trainers import TRAINERS

Step = Method

METHODS: dict[str, type[Step]] = {method.name: method for method in (*QUANTIZERS, *PRUNERS, *TRAINERS)}


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
