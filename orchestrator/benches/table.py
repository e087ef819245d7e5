"""The bench's figures with what each means and the mark it is held to: as a table in the terminal, and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

# The ends of paired intervals are named after the difference they bound.
ENDS = {"_low": "lower end of its 95 % interval, paired", "_high": "upper end of its 95 % interval, paired"}


@dataclass(frozen=True, slots=True)
class Figures:
    """A bench's figures. known: figure -> what it is, and the mark: at most (<=) or at least (>=) so much, or none.
    above_zero: ends of intervals that are held to be."""

    title: str
    note: str
    known: Mapping[str, tuple[str, str]]
    above_zero: tuple[str, ...] = ()


def explain_figure(name: str, figures: Figures) -> tuple[str, str]:
    """What a figure is, and its mark; empty for one that is not known here."""
    for end, what in ENDS.items():
        if name.endswith(end):
            return what, ">= 0" if name in figures.above_zero else ""
    return figures.known.get(name, ("", ""))


def meets(value: float, mark: str) -> bool | None:
    """Whether a figure is on the right side of its mark; None where there is none."""
    if not mark:
        return None
    sign, bound = mark.split()
    return value <= float(bound) if sign == "<=" else value >= float(bound)


def as_table(values: Mapping[str, float], figures: Figures) -> Table:
    """A row a figure, in the order the bench names them."""
    table = Table("figure", "value", "mark", "met", "what", caption=figures.note)
    for name, value, mark, met, what in _rows(values, figures):
        table.add_row(name, value, mark, met, what)
    return table


def as_page(record: Mapping[str, Any], figures: Figures) -> str:
    """A results file as a Markdown page: figures, conditions and the command, nothing typed by hand."""
    lines = [f"# {figures.title}", "", "| Figure | Value | Mark | Met | What |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in _rows(record["figures"], figures)]
    lines += ["", figures.note, "", "## Conditions", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in record["conditions"].items()]
    return "\n".join([*lines, "", f"Command: `{record['command']}`", ""])


def _rows(values: Mapping[str, float], figures: Figures) -> list[tuple[str, str, str, str, str]]:
    rows = []
    order = list(figures.known)
    for name in sorted(values, key=lambda name: _place(name, order)):
        what, mark = explain_figure(name, figures)
        met = {True: "yes", False: "no", None: ""}[meets(values[name], mark)]
        rows.append((name, f"{values[name]:g}", mark, met, what))
    return rows


def _place(name: str, order: list[str]) -> tuple[int, str]:
    stem = name.removesuffix("_low").removesuffix("_high")
    return (order.index(stem) if stem in order else len(order), "" if name == stem else name[len(stem) :][::-1])
