"""A family of candidates that a failure binds: all that take a step which the model can't take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search_spaces.methods.registry import Step, step_from_json, step_to_json


@dataclass(frozen=True, slots=True)
class Family:
    """method: the step's name. parameters: those that it must have; none, and it is any step of the method. after: the
    steps that must come before it, as JSON; None where it does not matter what does."""

    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[Mapping[str, Any], ...] | None = None

    def has(self, steps: Sequence[Step]) -> bool:
        """Whether a candidate of these steps is of the family."""
        # As it comes back from JSON, which has no tuples.
        spelt = json.loads(json.dumps([step_to_json(step) for step in steps]))
        return any(
            step["method"] == self.method
            and all(step.get(name) == value for name, value in self.parameters.items())
            and (self.after is None or spelt[:position] == list(self.after))
            for position, step in enumerate(spelt)
        )

    def describe(self) -> str:
        """`rtn(group_size=96) after remove_heads(…)`."""
        said = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
        after = " + ".join(step_from_json(dict(step)).describe() for step in self.after or ())
        return f"{self.method}{f'({said})' if said else ''}{f' after {after}' if after else ''}"

    def to_json(self) -> dict[str, Any]:
        """The family as a JSON object that `family_from_json` reads back."""
        after = None if self.after is None else [dict(step) for step in self.after]
        return {"method": self.method, "parameters": dict(self.parameters), "after": after}


def family_from_json(record: Mapping[str, Any]) -> Family:
    """The family that `Family.to_json` wrote."""
    after = record["after"]
    return Family(record["method"], dict(record["parameters"]), None if after is None else tuple(after))
