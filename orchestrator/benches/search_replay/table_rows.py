"""A recorded table's rows as the product's search knows a space: what each option is, and each candidate's steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.benches.search_replay.recording import QUANTIZERS, steps_of
from orchestrator.benches.search_replay.table import Array, Table, each_option_alone
from search_spaces.methods.registry import Step
from search_spaces.spaces.axes import EMBEDDINGS, QUANTIZER, Axes
from search_spaces.spaces.choices import Choices


class TableRows:
    """`Rows` of `orchestrator/search/guidance.py`, row for row of a table whose first options change nothing. Nothing
    that was measured is in them but bytes."""

    def __init__(self, table: Table) -> None:
        self.axes: Axes = {
            name: tuple(_choices_of(name, value) for value in values) for name, values in table.axes.items()
        }
        self.options: Array = table.options
        self.bytes: Array = table.bytes
        names = list(table.axes)
        self._alone = {(names[axis], option): row for row, (axis, option) in each_option_alone(table).items()}
        by = str(table.about["layers_by"])
        self._steps = [
            steps_of({name: table.axes[name][at] for name, at in zip(names, options, strict=True)}, by)
            for options in table.options.tolist()
        ]
        self._row_of = {steps: row for row, steps in enumerate(self._steps)}

    def choices(self, row: int) -> dict[str, Any]:
        """The choices of the row's options, together."""
        taken = zip(self.axes.values(), self.options[row].tolist(), strict=True)
        return {name: value for options, at in taken for name, value in options[at].items()}

    def steps(self, row: int) -> tuple[Step, ...]:
        """The steps of the row's candidate."""
        return self._steps[row]

    def alone(self, axis: str, option: int) -> int | None:
        """The row that takes this option of the axis and changes nothing else; None where the table has none."""
        return self._alone.get((axis, option))

    def row(self, steps: tuple[Step, ...]) -> int:
        """The row of the candidate with these steps; raises KeyError where the table has none."""
        return self._row_of[steps]


def _choices_of(axis: str, value: Any) -> Choices:
    """An option of a table as choices of a space; of what is removed, by the axis's own name."""
    if axis == EMBEDDINGS:
        return {"embeddings.bits": value}
    if axis != QUANTIZER:
        return {axis: value}
    step: Mapping[str, Any] = QUANTIZERS.get(value, {"method": "none"})
    width = "mixed.bits" if step["method"] == "mixed" else "quantizer.bits"
    return {"quantizer": step["method"], **({width: step["bits"]} if "bits" in step else {})}
