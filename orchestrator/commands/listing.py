"""`mtpareto spaces`, `methods`, `metrics` and `recipes`: what there is, from the registries."""

from __future__ import annotations

import inspect
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, get_args

from orchestrator.number_format import METRIC_NAMES
from orchestrator.study.spec import Quality
from search_spaces.errors import StudyError
from search_spaces.methods.parameter_docs import ParameterDoc, first_sentence, parameter_docs
from search_spaces.methods.recipes import RECIPES
from search_spaces.methods.registry import METHODS
from search_spaces.outcome import LOWER_IS_BETTER
from search_spaces.spaces.registry import SPACES
from workers.comet.files import MODELS
from workers.scoring.human_agreement import margin

WIDTH = 100
# Columns below which a last cell goes below the others, and where it begins there.
LEAST_WIDTH, INDENT = 40, 4


def spaces() -> list[str]:
    """A line a space."""
    needs = {name: "; needs training data" if space.needs_training else "" for name, space in SPACES.items()}
    return _aligned([(name, f"{space.about}{needs[name]}") for name, space in SPACES.items()])


def methods() -> list[str]:
    """A line a method."""
    return _aligned([(name, method.kind, first_sentence(method)) for name, method in METHODS.items()])


def method(name: str) -> list[str]:
    """A method with its parameters; raises StudyError for a name that no method has."""
    if name not in METHODS:
        raise StudyError(f"no method is called {name!r}; there are {', '.join(METHODS)}")
    found = METHODS[name]
    calibrated = "looks at calibration pairs" if found.needs_calibration else "needs no calibration pairs"
    lines = [f"{name}: {found.kind}, {calibrated}", *inspect.cleandoc(found.__doc__ or "").splitlines(), ""]
    for one in parameter_docs(found):
        lines += _parameter(one)
    recipes_of = [recipe for recipe, step in RECIPES.items() if step["method"] == name]
    given = [f"{one.name}: …" for one in parameter_docs(found) if one.default is None]
    lines += ["", f"In a study file: {{{', '.join([f'method: {name}', *given])}}}"]
    return lines + ([f"Recipes: {', '.join(recipes_of)}"] if recipes_of else [])


def metrics() -> list[str]:
    """A line a metric: what the field calls it, which way is better, and what computes it."""
    from workers.scoring.metrics import METRICS, NEURAL_METRICS

    computed = {name: f"sacreBLEU, {_signature(make('de'))} for German" for name, make in METRICS.items()}
    computed |= {name: MODELS[name] for name in NEURAL_METRICS}
    return _aligned(
        [
            (
                name,
                METRIC_NAMES[name],
                "lower is better" if name in LOWER_IS_BETTER else "higher is better",
                "quality of a search" if name in get_args(Quality) else "",
                "" if (least := margin(name)) is None else f"people notice {least:g}",
                about,
            )
            for name, about in computed.items()
        ]
    )


def recipes() -> list[str]:
    """A line a recipe: its method and parameters."""
    return _aligned(
        [
            (name, str(step["method"]), ", ".join(f"{key}: {value}" for key, value in step.items() if key != "method"))
            for name, step in RECIPES.items()
        ]
    )


def _signature(metric: Any) -> str:
    """A sacreBLEU metric's signature, which it has once it has scored."""
    metric.corpus_score(["Ein Hund."], [["Ein Hund."]])
    return str(metric.get_signature())


def _parameter(one: ParameterDoc) -> list[str]:
    default = "must be given" if one.default is None else f"default {one.default}"
    about = textwrap.wrap(one.about, WIDTH - 4)
    return [f"  {one.name} ({one.kind}; {default})", *(f"    {line}" for line in about)]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows' cells under each other; on a terminal the last one is broken between words, beside the others or, where
    there is little room, below them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    starts = ["  ".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)) for row in rows]
    if not sys.stdout.isatty():
        return [f"{start}  {row[-1]}".rstrip() for start, row in zip(starts, rows, strict=True)]
    width = shutil.get_terminal_size().columns
    lines = []
    for start, row in zip(starts, rows, strict=True):
        indent = len(start) + 2
        if width - indent < LEAST_WIDTH:
            lines.append(start.rstrip())
            start, indent = " " * (INDENT - 2), INDENT
        lines += textwrap.wrap(
            f"{start}  {row[-1]}", width, subsequent_indent=" " * indent, drop_whitespace=True, break_long_words=False
        )
    return lines
